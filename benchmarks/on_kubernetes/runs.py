"""One DAG run of a comparison: what it took, what it asked of the API server, and whether it did what it should."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from benchmarks import meters
from benchmarks.on_kubernetes.stage import Stage
from dev.airflow_server import AirflowError

#: failed tasks of a run of which the end of the log is kept, and how many characters of it
SHOWN, LOG_END = 3, 2000
#: what may go wrong with one repetition, and must not end the others
TROUBLE = (AirflowError, RuntimeError, OSError, subprocess.SubprocessError)


def dag_run(
    stage: Stage, dag_id: str, conf: dict[str, Any], timeout: float, costly: str | None = None
) -> dict[str, Any]:
    """Runs a DAG to its end.

    Gives ``state``, ``seconds`` of the run, ``tasks`` (when each began and ended, counted from the run's begin),
    ``retries``, ``slots`` (seconds of worker slots by task) and ``cpu_seconds`` of all of Airflow; ``gone``
    (:func:`until_gone`) where there are kinds that are ``costly``; and ``why`` it failed, if it did.
    """
    client = stage.client
    client.wait_for_dag(dag_id)
    meters.wait_until_calm()
    cpu = meters.tree_cpu(stage.keeper)
    run_id = client.trigger(dag_id, conf)
    try:
        state = client.wait_for_run(dag_id, run_id, timeout=timeout)
    except AirflowError:
        client.set_run_state(dag_id, run_id, "failed")  # what hangs must not disturb the next one
        raise
    cpu = meters.tree_cpu(stage.keeper) - cpu
    run = client.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
    begin, end = (datetime.fromisoformat(run[name]).timestamp() for name in ("start_date", "end_date"))
    gone = {"gone": until_gone(stage, costly, end)} if costly else {}
    tasks = task_instances(stage, dag_id, run_id)
    failed = [task for task in tasks if task["state"] == "failed"]
    time.sleep(2)  # the last supervisor's line may come after the end of the run
    slots = {_label(task): round(stage.slots.seconds(task["id"]), 2) for task in tasks}
    found: dict[str, Any] = {
        "state": state,
        "run_id": run_id,
        **gone,
        "seconds": round(end - begin, 3),
        "tasks": {_label(task): _times(task, begin) for task in tasks},
        "states": dict(Counter(str(task["state"]) for task in tasks)),
        "failed": {
            _label(task): client.task_log(dag_id, run_id, task["task_id"], map_index=task["map_index"])[-LOG_END:]
            for task in failed[:SHOWN]
        },
        "scheduler": [] if state == "success" else _scheduler_said(stage, run_id),
        "retries": sum(max(0, task["try_number"] - 1) for task in tasks),
        "slots": slots,
        "slot_seconds": round(sum(slots.values()), 2),
        "cpu_seconds": round(cpu, 2),
    }
    return found if state == "success" else {**found, "why": failure(found)}


def task_instances(stage: Stage, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """All of a run, as the REST API shows them."""
    found: list[dict[str, Any]] = []
    while True:
        query = {"limit": 100, "offset": len(found), "order_by": "id"}
        page = stage.client.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", **query)
        found += page["task_instances"]
        if len(found) >= page["total_entries"] or not page["task_instances"]:
            return found


def failure(found: dict[str, Any]) -> str:
    """Why a run that is not a success failed, with the end of the logs of tasks that did."""
    ends = "".join(f"\n{task}: …{log}" for task, log in found["failed"].items())
    said = "".join(f"\nscheduler: {line}" for line in found["scheduler"])
    return f"the run is {found['state']}: {found['states']}{ends}{said}"


def told(name: str, found: dict[str, Any]) -> str:
    """One part for the terminal."""
    return f"{name} {found['seconds']:.1f} s" if found["ok"] else f"{name} FAILED: {found['why']}"


def attempt(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the part says, with ``ok`` and, where that is false, ``why``."""
    try:
        found = part()
    except TROUBLE as error:
        return {"ok": False, "why": f"{type(error).__name__}: {error}"}
    return {"ok": not found.get("why"), **found}


def until_gone(stage: Stage, kinds: str, since: float, limit: float = 60.0) -> float | None:
    """Seconds after `since` (a time) at which nothing of these kinds was left; ``None``: something stayed."""
    while stage.objects(kinds):
        if time.time() > since + limit:
            return None
        time.sleep(0.1)
    return round(time.time() - since, 3)


def counts(stage: Stage, account: str) -> dict[str, Any]:
    """What an account has asked of the API server since the last call."""
    asked = stage.audit.new().get(account, Counter())
    return {"requests": asked.total(), "requests_by_kind": dict(asked.most_common())}


def _scheduler_said(stage: Stage, run_id: str) -> list[str]:
    """Its last complaints about a run."""
    lines = (stage.airflow.home / "logs" / "scheduler.log").read_text(errors="replace").splitlines()
    return [line[:LOG_END] for line in lines if run_id in line and ("error" in line or "warning" in line)][-SHOWN:]


def _label(task: dict[str, Any]) -> str:
    return str(task["task_id"]) if task["map_index"] < 0 else f"{task['task_id']}[{task['map_index']}]"


def _times(task: dict[str, Any], begin: float) -> list[float | None]:
    moments = (task["start_date"], task["end_date"])
    return [None if each is None else round(datetime.fromisoformat(each).timestamp() - begin, 3) for each in moments]
