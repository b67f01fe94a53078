"""Events that touch all of Airflow: a component killed, stalled or away. One after another, after the calm ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask_provider.clusters import LocalCluster
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of
from dask_provider.owner import Attempt, Owner
from dask_provider.triggers.base import WAITING

from dev.airflow_server import AirflowServer
from tests.system.calm import scenarios, underway
from tests.system.run import Run


@pytest.fixture
def airflow(airflow3: AirflowServer) -> Iterator[AirflowServer]:
    scenarios.wait_all(3)
    yield airflow3
    airflow3.heal()


def test_triggerer_killed_and_restarted(airflow: AirflowServer, tmp_path: Path) -> None:
    run = Run(airflow, tmp_path, "block_deferred", seconds=15, gated=True)
    underway(run, "deferred")
    airflow.kill("triggerer", tree=True)
    time.sleep(3)
    airflow.start_component("triggerer")
    run.until_said("etl.run", WAITING, times=2)
    run.gate.touch()
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (1, 1)
    shown = run.lines("etl.run")
    assert sorted(set(shown)) == sorted(run.counted("etl.run")), "nothing is missing"
    assert len(shown) - len(set(shown)) <= 10, "only what the killed one had not noted comes twice"
    run.assert_gone()


@pytest.mark.whole
def test_triggerer_stalls_while_another_takes_over(airflow: AirflowServer, tmp_path: Path) -> None:
    run = Run(airflow, tmp_path, "block_deferred", seconds=60)
    underway(run, "deferred")
    airflow.start_component("triggerer-2")
    time.sleep(5)
    airflow.freeze("triggerer")
    time.sleep(20)  # until the other has taken its triggers
    airflow.thaw("triggerer")
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (1, 1), "the one that woke up did not cancel the job"
    airflow.end_component("triggerer-2")
    run.assert_gone()


@pytest.mark.whole
def test_api_server_away_for_a_minute(airflow: AirflowServer, tmp_path: Path) -> None:
    runs = []
    for mode in ("running", "deferred"):
        folder = tmp_path / mode
        folder.mkdir()
        runs.append(Run(airflow, folder, f"patient_{mode}", seconds=110))
    for run, mode in zip(runs, ("running", "deferred"), strict=True):
        underway(run, mode)
    airflow.kill("api-server", tree=True)
    time.sleep(60)
    airflow.start_component("api-server")
    airflow.heal()
    for run in runs:
        assert run.end() == "success", run.log("etl.run")
        assert (run.starts(), run.ends()) == (1, 1), run.log("etl.run")
        run.assert_gone()


def test_reaper_ends_what_outlived_its_run(
    airflow: AirflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DASK__STATE_DIR", str(airflow.home / "dask"))
    going = Run(airflow, tmp_path, "block_running", gated=True)
    underway(going, "running")
    leaked = [_leak(instance) for instance in ("system-tests", "another")]
    hook = hook_of("local")
    for dag_id, done in (("look", "would be deleted"), ("reap", "deleting")):
        asyncio.run(hook.check(leaked[0]))  # it lives, also after a look
        reaper = Run(airflow, tmp_path / dag_id, dag_id)
        assert reaper.end() == "success", reaper.states()
        said = {found["name"]: found["done"] for found in reaper.xcom(dag_id)}
        assert said[leaked[0].name] == done
        assert said[_name(going)] == "kept"
        assert leaked[1].name not in said, "another instance's clusters are not even seen"
    assert asyncio.run(hook.wait_gone(leaked[0], 20))
    asyncio.run(hook.check(leaked[1]))
    asyncio.run(hook.delete(leaked[1], "the test is over"))
    assert asyncio.run(hook.wait_gone(leaked[1], 20))
    going.gate.touch()
    assert going.end() == "success", going.states()
    assert going.starts() == 1


@pytest.mark.whole
def test_all_of_airflow_gone(airflow: AirflowServer, tmp_path: Path) -> None:
    run = Run(airflow, tmp_path, "block_deferred", seconds=15)
    underway(run, "deferred")
    airflow.kill_all(spare=("dask_provider.runtime", "dask_job_runtime", "dask ", "witness.py", "multiprocessing"))
    assert run.processes(), "the cluster lives on"
    run.assert_gone(90)
    assert run.ends() == 1, "the job was not disturbed; the lease ended the cluster when it had been idle"


def _leak(instance: str) -> ClusterHandle:
    owner = Owner(instance, "block_running", "manual__long_over", "etl")
    attempt = Attempt(1, fresh=True, last=False, started=1)
    handle: ClusterHandle = asyncio.run(hook_of("local").create(LocalCluster(workers=1), owner, attempt))
    return handle


def _name(run: Run) -> str:
    return next(f.name for f in run.folders() if (f / "cluster.json").exists())
