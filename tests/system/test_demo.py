"""The repository's DAGs are parsed, and the demo's DAG runs, on both Airflows; Ctrl-C ends the demo and all it made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from dev.airflow_server import AirflowServer
from dev.airflow_server.processes import descendants
from dev.airflow_server.server import CHECKOUT, COMPONENTS, running_keeper
from tests.system.calm import scenarios
from tests.system.run import overlapping, wait_until

Demo = subprocess.Popen[str]


def airflow_is_starting(demo: Demo, folder: Path) -> None:
    def components() -> int:
        keeper = running_keeper(folder / "airflow")
        return len(descendants(keeper)) if keeper else 0

    def started() -> bool:
        return components() >= len(COMPONENTS[3]) or demo.poll() is not None

    wait_until(started, "Airflow is starting", within=240)


def job_is_running(demo: Demo, folder: Path) -> None:
    assert demo.stdout is not None
    assert any("flights.py --input" in line for line in demo.stdout), "it ended before its job had started"


@pytest.mark.whole
def test_ctrl_c(tmp_path: Path) -> None:
    # One folder: the second demo finds what the first has left, and its database is made already.
    folder = tmp_path / "demo"
    for moment in (airflow_is_starting, job_is_running):
        with _demo(folder) as demo:
            moment(demo, folder)
            keeper = running_keeper(folder / "airflow")
            assert keeper is not None
            # Airflow hides the environment of its processes: these are known by their ancestor.
            made = [keeper, *(process.pid for process in descendants(keeper))]
            os.killpg(demo.pid, signal.SIGINT)
            said, _ = demo.communicate(timeout=30)
            assert demo.returncode == 130, said
            assert "interrupted, no processes left" in said
            assert overlapping(made) == []
            assert _naming(folder) == []


@contextmanager
def _demo(folder: Path) -> Iterator[Demo]:
    command = [sys.executable, "-m", "dev.demo", "--days", "2", "--folder", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # A terminal sends Ctrl-C to the whole group of the command that it runs.
    # Where the tests run in the background of a shell the signal is ignored, by all that they start, too.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=CHECKOUT, start_new_session=True, preexec_fn=heard, **pipes) as demo:
        try:
            yield demo
        finally:
            demo.kill()  # its keeper then ends the rest


def _naming(folder: Path) -> list[psutil.Process]:
    """All processes with the folder in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:  # gone, or somebody else's
            continue
        if any(str(folder) in word for word in words):
            found.append(process)
    return found


@pytest.mark.parametrize("version", [3, pytest.param(2, marks=pytest.mark.whole)])
def test_flights_daily(version: int, request: pytest.FixtureRequest, flights: Path) -> None:
    server: AirflowServer = request.getfixturevalue(f"airflow{version}")
    scenarios.wait_all(version)
    for dag_id in ("flights_daily", "dask_reaper"):
        server.client.wait_for_dag(dag_id)
    assert server.client.import_errors() == {}
    run_id = server.client.trigger("flights_daily", {"days": 3, "day": "2013-02-01"})
    states = [server.client.wait_for_run("flights_daily", run_id)]
    states += [instance.state or "" for instance in server.client.task_instances("flights_daily", run_id)]
    assert set(states) == {"success"}
    summary = json.loads((flights / f"airflow{version}" / "latest" / "summary.json").read_text())
    # Counted row by row in the CSV files of the three days.
    assert (summary["flights"], summary["cancelled"]) == (2422, 36)
