"""The jobs of the repository on YARN: beside an application of ours by the job runtime, and with one of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dask_provider.jobs import ARCHIVE, Job, make_bundle
from dask_provider.owner import Owner
from dask_provider.runtime import yarn_compat

from tests.servers.yarn import YarnServer

pytestmark = pytest.mark.whole

JOBS = Path(__file__).parents[3] / "jobs"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same table as CSV and as Parquet."""
    folder = tmp_path_factory.mktemp("table")
    random = np.random.default_rng(6)
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(500), "h")
    table = pd.DataFrame({"timestamp": times, "value": random.normal(5, 2, 500), "category": ["a", "b"] * 250})
    table.to_csv(folder / "table.csv", index=False)
    table.to_parquet(folder / "table.parquet", index=False)
    return folder


class Bundled:
    """A job with an application of its own, as a place stages it."""

    def __init__(self, folder: Path, script: Path, *arguments: str, **spec: object) -> None:
        program = (script.name, script.read_bytes())
        job = Job(script=program, arguments=arguments, performance_report=False)
        self.bundle = make_bundle(job, Owner("tests", "yarn", "1", script.stem), f"{folder}/")
        self.folder = folder / "bundle"
        self.folder.mkdir(parents=True)
        for name, content in self.bundle.files.items():
            (self.folder / name).write_bytes(content)
        of_place = {"min_workers": 1, "ready_timeout": 60, "activity_file": None, "cluster_env": {}}
        small = {"python": sys.executable, "workers": [1, 1], "worker_memory": 768, "scheduler_memory": 512}
        yarn = {**small, "host": "127.0.0.1", "tags": [self.bundle.owner.name], **spec}
        (self.folder / "job.json").write_bytes(self.bundle.job_json("one", **of_place, yarn=yarn))

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.folder / ARCHIVE), "yarn", "job", str(self.folder / "job.json")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def outcome(self) -> dict[str, object]:
        return dict(json.loads((self.folder / "outcome.json").read_text()))


def test_the_example_beside_an_application_of_its_own(node: YarnServer, table: Path, tmp_path: Path) -> None:
    job = Bundled(tmp_path, JOBS / "dask_yarn_example.py", "--input", f"{table}/table.csv")
    killed = job.start()
    assert killed.stdout
    assert killed.stdout.readline().startswith("started application_")
    killed.kill()  # what it has started goes on, and is in the way of the next try
    killed.wait()
    [left] = node.applications(job.bundle.owner.name)
    output, _ = (again := job.start()).communicate(timeout=120)
    assert again.returncode == 0, output
    assert f"ending {left['id']}, which an older try has left" in output
    assert "the cluster at tls://127.0.0.1:" in output
    assert job.outcome()["state"] == "succeeded"
    made = pd.read_csv(Path(job.bundle.results("one")) / "part-00000.csv")
    value = pd.read_csv(table / "table.csv")["value"]
    np.testing.assert_allclose(made["value_normalized"], (value - value.mean()) / value.std(), rtol=1e-9)
    assert not node.applications()


def test_a_job_that_is_cancelled_or_cannot_start(node: YarnServer, table: Path, tmp_path: Path) -> None:
    job = Bundled(tmp_path, JOBS / "dask_yarn_example.py", "--input", f"{table}/table.csv", workers=[0, 1])
    waiting = job.start()
    assert waiting.stdout
    while "have joined" not in (line := waiting.stdout.readline()):
        assert line, "it ended by itself"
    waiting.terminate()
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1, output
    assert (job.outcome()["state"], job.outcome()["reason"]) == ("cancelled", "cancelled (SIGTERM)")
    wrong = Bundled(tmp_path / "x", JOBS / "dask_yarn_example.py", "--input", "x", queue="nobody")
    output, _ = (refused := wrong.start()).communicate(timeout=60)
    assert refused.returncode == 1, output
    assert "unknown queue: nobody" in str(wrong.outcome()["reason"])
    assert not node.applications()


def test_large_scale_on_a_cluster_of_its_own(node: YarnServer, table: Path, tmp_path: Path) -> None:
    shutil.copy(yarn_compat.__file__, tmp_path / "sitecustomize.py")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "DASK_CONFIG": str(tmp_path),
        "DASK_YARN__ENVIRONMENT": f"python://{sys.executable}",
        "DASK_YARN__SCHEDULER__MEMORY": "512 MiB",
    }
    arguments = ["--input-pattern", f"{table}/*.parquet", "--output-path", f"{tmp_path}/out", "--worker-vcores", "1"]
    arguments += ["--worker-memory", "768 MiB", "--min-workers", "1", "--max-workers", "2"]
    command = [sys.executable, str(JOBS / "dask_large_scale_processing.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made, before = pd.read_parquet(tmp_path / "out"), pd.read_parquet(table / "table.parquet")
    rolling = before.set_index("timestamp")["value"].rolling("7D").mean()
    np.testing.assert_allclose(made["rolling_mean"], rolling, rtol=1e-9)
    assert [app["finalStatus"] for app in node.get("apps")["apps"]["app"] if app["name"] == "large-scale"] == [
        "SUCCEEDED"
    ]
