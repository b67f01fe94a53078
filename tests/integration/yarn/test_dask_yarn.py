"""dask-yarn 0.9, unchanged, on current distributed and a real YARN: what users' scripts do with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dask_provider.runtime import yarn_compat

from tests.servers.yarn import YarnServer
from tests.servers.yarn.server import OVER

pytestmark = pytest.mark.whole

SMALL = "worker_memory='512 MiB', worker_vcores=1, scheduler_memory='512 MiB'"
ENVIRONMENT = f"python://{sys.executable}"

REMOTE = f"""
    import json, time
    from dask.distributed import Client
    from dask_yarn import YarnCluster

    def until(count):
        deadline = time.monotonic() + 40
        while len(client.scheduler_info(n_workers=-1)["workers"]) != count:
            assert time.monotonic() < deadline, client.scheduler_info(n_workers=-1)["workers"].keys()
            time.sleep(0.1)

    with YarnCluster(environment={ENVIRONMENT!r}, n_workers=2, {SMALL}, tags=["of-the-script"]) as cluster:
        with Client(cluster) as client:
            client.wait_for_workers(2, timeout=60)
            total = client.submit(sum, client.map(lambda x: x * x, range(100))).result()
            cluster.scale(1)
            until(1)
            logs = cluster.logs()
            cluster.adapt(minimum=0, maximum=2, interval="200ms")
            until(0)
            slow = client.map(time.sleep, [0.4] * 20, pure=False)
            until(2)
            client.gather(slow)
            found = dict(
                total=total,
                logs=sorted(logs),
                link=cluster.dashboard_link,
                containers=[container.id for container in cluster.workers()],
                application=cluster.app_id,
            )
        cluster.close()
    print(json.dumps(found))
"""
LOCAL = f"""
    from dask.distributed import Client
    from dask_yarn import YarnCluster

    cluster = YarnCluster(environment={ENVIRONMENT!r}, n_workers=1, {SMALL}, deploy_mode="local", host="127.0.0.1")
    client = Client(cluster)
    print(client.submit(sum, [1, 2]).result(timeout=60), cluster.app_id)
    client.close()
    cluster.close()
"""
INSIDE = """
    import sys
    from dask.distributed import Client
    from dask_yarn import YarnCluster

    with Client(YarnCluster.from_current()) as client:
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3
    sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def environment(node: YarnServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a process that has the compatibility module as a job of ours brings it along."""
    bundle = tmp_path_factory.mktemp("bundle")
    shutil.copy(yarn_compat.__file__, bundle / "sitecustomize.py")
    return {**os.environ, "PYTHONPATH": str(bundle), "DASK_CONFIG": str(bundle / "configuration")}


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    def run(source: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(source))
        command = [sys.executable, str(script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def until_over(node: YarnServer, identity: str) -> dict[str, str]:
    deadline = time.monotonic() + 60
    while (report := node.application(identity))["state"] not in OVER:
        assert time.monotonic() < deadline, report
        time.sleep(0.2)
    return report


def test_a_cluster_of_a_script(node: YarnServer, run: Run) -> None:
    found = json.loads(run(REMOTE).stdout.splitlines()[-1])
    assert found["total"] == 328350
    assert found["logs"][0] == "Scheduler"
    assert len(found["logs"]) == 2
    assert found["link"].startswith("http://")
    assert len(found["containers"]) == 2
    report = until_over(node, found["application"])
    assert (report["finalStatus"], report["applicationTags"]) == ("SUCCEEDED", "of-the-script")


def test_a_scheduler_in_the_script_itself(node: YarnServer, run: Run) -> None:
    total, identity = run(LOCAL).stdout.split()[-2:]
    assert total == "3"
    assert until_over(node, identity)["finalStatus"] == "SUCCEEDED"


def test_scripts_that_yarn_runs(node: YarnServer, environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "inside.py"
    script.write_text(textwrap.dedent(INSIDE))
    command = [sys.executable, "-m", "dask_yarn.cli", "submit", "--environment", ENVIRONMENT]
    for part in ("worker", "scheduler", "client"):
        command += [f"--{part}-memory", "512 MiB"]
    submits = [
        subprocess.Popen(
            [*command, "--worker-count", "1", str(script), str(code)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for code in (0, 3)
    ]
    identities = [submit.communicate(timeout=60)[0].split()[-1] for submit in submits]
    assert [until_over(node, identity)["finalStatus"] for identity in identities] == ["SUCCEEDED", "FAILED"]
