"""Events that touch one run only: a user's clicks, time-outs, failures, a task's processes killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from pathlib import Path

import psutil
from dask_provider.publish import load_source, publish

from dev.airflow_server import AirflowServer
from tests.publishing import assert_stored, leave_result, reader
from tests.system.run import Run, overlapping, wait_until
from tests.system.scenarios import Scenarios

MODES = ("running", "deferred")
scenarios = Scenarios(at_once=4)


def underway(run: Run, mode: str, task_id: str = "etl.run", index: int = -1, suffix: str = "") -> None:
    """The job's program runs, and the task waits for it the way it is meant to."""
    run.until_started(suffix=suffix)
    run.until(task_id, mode, index=index)
    run.until_followed(task_id, mode, index)


def kill(run: Run, task_id: str, who: str) -> None:
    """SIGKILL for the processes of a running task: "task", "supervisor" or "both"."""
    processes = run.server.task_processes(run.until(task_id, "running"))
    for name in ("supervisor", "task"):  # in this order: a supervisor would report its task's death
        if who in (name, "both"):
            os.kill(getattr(processes, name), signal.SIGKILL)


@scenarios.add(*MODES)
def whole_run(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"block_{mode}", seconds=8)
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (1, 1)
    assert (run.results / "answer.txt").read_text() == "45"
    stored = run.xcom("store")
    assert (stored["files"], stored["bytes"]) == (1, 2)
    log = run.log("etl.run")
    assert [log.count(f"\nline {n}\n") for n in range(1, 7)] == [1] * 6, log
    run.assert_gone()


@scenarios.add(*MODES)
def job_fails(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"block_{mode}", seconds=6, fail_times=9)
    assert run.end() == "failed", run.states()
    assert run.states()["etl.delete_cluster"] == "success"
    log = run.log("etl.run")
    assert "failed: exit code 1: ValueError: start 1 is meant to fail" in log
    assert log.rindex("exit code 1") < log.rindex("Traceback (most recent call last):"), "the reason comes first"
    run.assert_gone()


@scenarios.add(*MODES)
def retry_on_the_same_cluster(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"retry_{mode}", seconds=4, fail_times=1)
    run.until_started()
    uid = run.cluster_uid()
    run.until_started(2)
    assert run.cluster_uid() == uid
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (2, 1)
    run.assert_gone()


@scenarios.add()
def setup_fails(server: AirflowServer, folder: Path) -> None:
    run = Run(server, folder, "setup_fails")
    assert run.end() == "failed", run.states()
    assert run.states()["etl.create_cluster"] == "failed"
    assert "the scheduler ended with status 7: this Python is broken" in run.log("etl.create_cluster")
    run.assert_gone()


@scenarios.add()
def bad_input(server: AirflowServer, folder: Path) -> None:
    run = Run(server, folder, "no_script")
    assert run.end() == "failed"
    refused = "script: 'file:///no/such/no_script.py' is not possible; allowed:"
    assert refused in run.log("etl.create_cluster"), run.log("etl.create_cluster")
    create = run.until("etl.create_cluster", "failed")
    assert create.try_number == 1, "a retry would be told the same"
    assert run.folders() == [], "refused before a cluster was made"


@scenarios.add(*MODES)
def create_killed_half_way(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"slow_create_{mode}")
    run.until("etl.create_cluster", mode)
    run.until_followed("etl.create_cluster", mode)
    while not run.processes():
        time.sleep(0.2)
    run.mark("etl.create_cluster", "failed")
    assert run.end() == "failed", run.states()
    run.assert_gone(90)  # the first question of a triggerer's life takes Airflow ten seconds of work
    assert run.starts() == 0


@scenarios.add(*MODES)
def marked_failed(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"block_{mode}", seconds=300)
    underway(run, mode)
    run.mark("etl.run", "failed")
    assert run.end() == "failed", run.states()
    assert run.states()["etl.delete_cluster"] == "success"
    run.assert_gone()
    assert (run.starts(), run.ends()) == (1, 0)


@scenarios.add(*MODES)
def mapped_marked_failed(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"mapped_{mode}", seconds=25)
    underway(run, mode, index=0, suffix="0")
    underway(run, mode, index=1, suffix="1")
    run.mark("etl.run", "failed", index=0)
    assert run.end() == "failed", run.states()
    run.assert_gone()
    assert (run.starts("0"), run.ends("0")) == (1, 0)
    assert (run.starts("1"), run.ends("1")) == (1, 1), "its neighbour went on"


@scenarios.add(*MODES)
def run_marked_failed(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"block_{mode}", seconds=300)
    underway(run, mode)
    run.client.set_run_state(run.dag_id, run.run_id, "failed")
    run.assert_gone(60)
    assert run.ends() == 0


@scenarios.add(*MODES)
def own_cluster_marked_failed(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"own_{mode}", seconds=300)
    underway(run, mode, "run")
    run.mark("run", "failed")
    assert run.end() == "failed", run.states()
    run.assert_gone()


@scenarios.add(*MODES)
def own_cluster(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"own_{mode}", seconds=6)
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (1, 1)
    run.assert_gone()


@scenarios.add(*MODES)
def cleared(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"block_{mode}", seconds=20)
    underway(run, mode)
    run.client.clear(run.dag_id, run.run_id, ["etl.run"])
    run.until_started(2)
    first, second = run.pids()
    assert overlapping([first]) == [], "the old attempt ended before the new one began"
    assert overlapping([second]) == [second]
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (2, 1)
    run.assert_gone()


@scenarios.add(*MODES)
def mapped_cleared(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"mapped_{mode}", seconds=20)
    underway(run, mode, index=0, suffix="0")
    run.client.clear(run.dag_id, run.run_id, [("etl.run", 0)])
    run.until_started(2, suffix="0")
    assert overlapping(run.pids("0")[:1]) == []
    assert run.end() == "success", run.states()
    assert (run.starts("0"), run.ends("0"), run.starts("1"), run.ends("1")) == (2, 1, 1, 1)
    run.assert_gone()


@scenarios.add(*MODES)
def own_cluster_cleared(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"own_{mode}", seconds=20)
    underway(run, mode, "run")
    run.client.clear(run.dag_id, run.run_id, ["run"])
    run.until_started(2)
    assert overlapping(run.pids()[:1]) == []
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (2, 1)
    run.assert_gone()


@scenarios.add()
def whole_run_cleared(server: AirflowServer, folder: Path) -> None:
    run = Run(server, folder, "block_running")
    assert run.end() == "success"
    run.client.clear(run.dag_id, run.run_id)
    run.until_started(2)
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (2, 2)
    run.assert_gone()


@scenarios.add(*MODES)
def execution_timeout(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"timeout_{mode}", seconds=300)
    run.until_started()
    run.until_started(2)
    assert overlapping(run.pids()[:1]) == [], "the first job was cancelled before the retry"
    assert run.end() == "failed", run.states()
    run.assert_gone()
    assert run.ends() == 0


@scenarios.add(*MODES)
def dagrun_timeout(server: AirflowServer, folder: Path, mode: str) -> None:
    run = Run(server, folder, f"dagrun_timeout_{mode}", seconds=300)
    underway(run, mode)
    assert run.end() == "failed", run.states()
    # Airflow skips the teardown: the killed task, or at the latest the lease, ends the cluster.
    run.assert_gone(90)
    assert run.states()["etl.delete_cluster"] == "skipped"
    assert run.ends() == 0


@scenarios.add("task", "supervisor", "both")
def killed_process(server: AirflowServer, folder: Path, who: str) -> None:
    run = Run(server, folder, "retry_running", seconds=45)
    underway(run, "running")
    kill(run, "etl.run", who)
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (1, 1), "re-attached: neither cancelled nor run twice"
    assert "goes on, an earlier try started it" in run.log("etl.run", 2)
    run.assert_gone()


@scenarios.add("task", "supervisor", "both")
def create_killed_and_retried(server: AirflowServer, folder: Path, who: str) -> None:
    gate, python = folder / "gate", folder / "python"
    python.write_text(f'#!/bin/sh\nwhile [ ! -e {gate} ]; do sleep 0.2; done\nexec {server.python} "$@"\n')
    python.chmod(0o755)
    run = Run(server, folder, "gated", python=str(python))
    wait_until(lambda: "the scheduler is starting" in run.log("etl.create_cluster"), "the cluster is starting")
    uid = run.cluster_uid()
    kill(run, "etl.create_cluster", who)
    wait_until(lambda: f"uid {uid}" in run.log("etl.create_cluster", 2), "the retry has adopted the cluster")
    assert len(run.keepers()) == 1, "there is no other one beside it"
    gate.touch()
    assert run.end() == "success", run.states()
    assert run.xcom("etl.create_cluster")["uid"] == uid
    assert (run.starts(), run.ends()) == (1, 1)
    run.assert_gone()


@scenarios.add("task", "both")
def store_killed(server: AirflowServer, folder: Path, who: str) -> None:
    source, destination, older = str(folder / "job"), str(folder / "results"), None
    if who == "both":  # with an older result, and else with nothing there
        older = 2
        publish(load_source(leave_result(source, older)), destination)
    manifest = leave_result(source, 1)
    # Whoever opens one of the three files waits, so the copying is caught half-way however quick the machine is.
    last = folder / "job" / "results-1" / "daily" / "deep" / "part.1.parquet"
    content = last.rename(folder / "content")
    os.mkfifo(last)
    with reader(destination, may_be_absent=older is None) as seen:
        run = Run(server, folder, "store_alone", source=manifest)
        wait_until(lambda: _staged(folder) == [0, 13, 3000], "two files are copied, the third is being opened")
        task = server.task_processes(run.until("store", "running")).task
        os.kill(task, signal.SIGSTOP)  # it must not go on with the file that the retry is to find
        content.replace(last)
        kill(run, "store", who)
        assert run.end() == "success", run.states()
    assert [number for number, _ in itertools.groupby(seen)] in ([older], [older, 1])
    assert run.until("store", "success").try_number == 2
    assert_stored(destination, 1)


def _staged(folder: Path) -> list[int]:
    """Sizes of the files that a store step has copied so far."""
    return sorted(path.stat().st_size for path in folder.glob(".results.*.staging/**/*") if path.is_file())


@scenarios.add()
def teardown_of_something_gone(server: AirflowServer, folder: Path) -> None:
    run = Run(server, folder, "block_running", seconds=120)
    underway(run, "running")
    keeper = next(f for f in run.folders() if (f / "keeper.json").exists()) / "keeper.json"
    psutil.Process(json.loads(keeper.read_text())["pid"]).kill()
    assert run.end() == "failed", run.states()
    states = run.states()
    assert (states["etl.run"], states["etl.delete_cluster"]) == ("failed", "success")
    assert "already gone" in run.log("etl.delete_cluster")
    run.assert_gone()


@scenarios.add()
def teardown_of_something_forgotten(server: AirflowServer, folder: Path) -> None:
    run = Run(server, folder, "forgotten")
    assert run.end() == "success", run.states()
    assert set(run.states().values()) == {"success"}
    log = run.log("etl.delete_cluster")
    assert "never existed" in log
    assert "or its record was removed" in log
    assert (run.starts(), run.ends()) == (1, 1)
    assert (run.results / "answer.txt").read_text() == "45"
    cluster = Path(run.xcom("etl.create_cluster")["details"]["folder"])
    run.assert_gone(90, cluster)  # nobody can find it any more: its lease ends it


@scenarios.add()
def job_finds_its_cluster_expired(server: AirflowServer, folder: Path) -> None:
    run = Run(server, folder, "short_idle")
    assert run.end() == "failed", run.states()
    assert "is gone; idle_timeout: nothing to do for 6 s" in run.log("etl.run")
    assert run.until("etl.run", "failed").try_number == 1, "a retry would not bring the cluster back"
    assert run.starts() == 0
    assert "already gone" in run.log("etl.delete_cluster")
    run.assert_gone()


@scenarios.add()
def stored_before(server: AirflowServer, folder: Path) -> None:
    run = Run(server, folder, "skip")
    assert run.end() == "success", run.states()
    assert run.starts() == 1
    run.client.clear(run.dag_id, run.run_id)
    run.until("etl.create_cluster", "success", try_number=2)
    assert run.end() == "success", run.states()
    assert run.starts() == 1, "the stored result was used"
    assert run.xcom("etl.run")["stored"]["uri"] == f"file://{run.results}/"
    assert run.xcom("etl.create_cluster")["needed"] is False
    run.assert_gone()


@scenarios.add()
def fan_out_stored_before(server: AirflowServer, folder: Path) -> None:
    jobs = (("etl.run", -1), ("etl.part", 0), ("etl.part", 1))
    first = Run(server, folder, "fan_out")
    assert first.end() == "success", first.states()
    second = Run(server, folder, "fan_out")
    assert second.end() == "success", second.states()
    assert set(second.states().values()) == {"success"}
    assert [second.starts(suffix) for suffix in ("", "0", "1")] == [1, 1, 1], "both runs have one witness"
    for task_id, index in jobs:
        result = second.xcom(task_id, index)
        assert (result["state"], result["stored"]["uri"]) == ("succeeded", f"file://{second.results}/")
    assert second.xcom("store") == first.xcom("store")
    assert second.folders() == [], "neither a cluster nor a job was made"
    assert "no cluster was needed" in second.log("etl.delete_cluster")
    first.assert_gone()
