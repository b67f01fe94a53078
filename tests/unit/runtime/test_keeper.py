"""When a keeper ends its cluster, and how it starts its processes. No process is started here."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from dask_provider.runtime.keeper import Failed, Keeper
from dask_provider.runtime.records import write_record


def keeper(folder: Path, *, age: float = 0, ready: bool = True, **spec: Any) -> Keeper:
    """A keeper that has worked for ``age`` seconds, without any job so far."""
    defaults = {"idle_timeout": 60, "max_lifetime": 1000, "ready_timeout": 300, "workers": [1, 1], "min_workers": 1}
    write_record(folder / "cluster.json", {**defaults, "tls": False, "env": {}, **spec})
    (folder / "activity").touch()
    made = Keeper(folder)
    then = time.time() - age
    os.utime(folder / "activity", (then, then))
    made._born = made._busy = then
    made._was_ready = ready
    return made


def test_idle_counts_from_the_last_activity(tmp_path: Path) -> None:
    assert keeper(tmp_path, age=50)._reason_to_end() is None
    made = keeper(tmp_path, age=70)
    assert made._reason_to_end() == "idle_timeout: nothing to do for 60 s"
    (tmp_path / "activity").touch()  # a job says that it is there
    assert made._reason_to_end() is None
    (tmp_path / "activity").unlink()
    assert keeper(tmp_path, age=50)._reason_to_end() is None


def test_starting_is_no_idleness_for_as_long_as_starting_may_take(tmp_path: Path) -> None:
    assert keeper(tmp_path, age=70, ready=False)._reason_to_end() is None
    assert str(keeper(tmp_path, age=301, ready=False)._reason_to_end()).startswith("idle_timeout")


def test_an_extended_lease_puts_off_idleness_but_not_the_end_of_life(tmp_path: Path) -> None:
    made = keeper(tmp_path, age=70)
    write_record(tmp_path / "lease.json", {"until": time.time() + 5})
    assert made._reason_to_end() is None
    write_record(tmp_path / "lease.json", {"until": time.time() - 5})
    assert str(made._reason_to_end()).startswith("idle_timeout")
    made = keeper(tmp_path, age=1001)
    (tmp_path / "activity").touch()
    write_record(tmp_path / "lease.json", {"until": time.time() + 5})
    assert made._reason_to_end() == "max_lifetime: 1000 s are over"


def test_whoever_deletes_says_why(tmp_path: Path) -> None:
    made = keeper(tmp_path)
    made.ask_to_end(15, None)
    assert made._reason_to_end() == "deleted"
    write_record(tmp_path / "ending.json", {"reason": "reaped: its run is over"})
    assert made._reason_to_end() == "reaped: its run is over"


def test_a_worker_that_is_restarted_all_the_time_ends_the_start(tmp_path: Path) -> None:
    made = keeper(tmp_path)
    made._workers = {"worker-0": None}  # type: ignore[dict-item]
    made._check_restarts()
    log = tmp_path / "worker-0.log"
    log.write_text("Worker exceeded 95% memory budget. Restarting...\n" * 5)
    made._check_restarts()
    log.write_text("Worker exceeded 95% memory budget. Restarting...\n" * 6)
    with pytest.raises(Failed, match="worker-0 is restarted all the time: Worker exceeded 95% memory budget"):
        made._check_restarts()


def test_the_environment_of_scheduler_and_workers(tmp_path: Path) -> None:
    env = keeper(tmp_path, env={"COLOUR": "red"})._environment()
    assert env["COLOUR"] == "red"
    assert "retire" not in env["DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"]
    assert "distributed.http.scheduler.api" in env["DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"]
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" not in env
    secured = keeper(tmp_path, tls=True)._environment()
    assert secured["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
    assert secured["DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY"] == str(tmp_path / "tls" / "key.pem")


def test_a_folder_without_a_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds no cluster\.json"):
        Keeper(tmp_path)
