"""One DAG run of a comparison: what it took, and whether it did what it should."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from benchmarks import meters
from benchmarks.on_airflow.stage import AirflowStage
from dev.airflow_server import AirflowError

#: failed tasks of a run of which the end of the log is kept, and how many characters of it
SHOWN, LOG_END = 3, 2000
#: seconds for a supervisor's last line, which comes after the end of its task, and maybe of the run
LAST_LINE = 15.0
#: what may go wrong with one repetition, and must not end the others
TROUBLE = (AirflowError, RuntimeError, OSError, subprocess.SubprocessError)


def dag_run(
    stage: AirflowStage,
    dag_id: str,
    conf: dict[str, Any],
    timeout: float,
    costly: str | None = None,
    calm: float = 20.0,
) -> dict[str, Any]:
    """Runs a DAG to its end, after waiting at most ``calm`` seconds for the machine to be idle.

    Gives ``state``, ``seconds`` of the run, ``tasks`` (when each began and ended, counted from the run's begin),
    ``retries``, ``slots`` (seconds of worker slots by task, in its last try; ``None``: unknown), ``slot_seconds``
    (their sum; ``None``: one is unknown), and ``cpu_seconds`` of all of Airflow; ``gone`` (:func:`until_gone`) where
    there are kinds that are ``costly``; and ``why`` it failed, if it did.
    """
    client = stage.client
    client.wait_for_dag(dag_id)
    meters.wait_until_calm(calm)
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
    slots = _slots(stage, tasks)
    stayed = [seconds for seconds in slots.values() if seconds is not None]
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
        "slot_seconds": round(sum(stayed), 2) if len(stayed) == len(slots) else None,
        "cpu_seconds": round(cpu, 2),
    }
    return found if state == "success" else {**found, "why": failure(found)}


def task_instances(stage: AirflowStage, dag_id: str, run_id: str) -> list[dict[str, Any]]:
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


def until_gone(stage: AirflowStage, kinds: str, since: float, limit: float = 60.0) -> float | None:
    """Seconds after `since` (a time) at which nothing of these kinds was left; ``None``: something stayed."""
    while stage.objects(kinds):
        if time.time() > since + limit:
            return None
        time.sleep(0.1)
    return round(time.time() - since, 3)


def _scheduler_said(stage: AirflowStage, run_id: str) -> list[str]:
    """Its last complaints about a run."""
    lines = (stage.airflow.home / "logs" / "scheduler.log").read_text(errors="replace").splitlines()
    return [line[:LOG_END] for line in lines if run_id in line and ("error" in line or "warning" in line)][-SHOWN:]


def _slots(stage: AirflowStage, tasks: list[dict[str, Any]]) -> dict[str, float | None]:
    """Seconds of worker slots by task; one that never had a process (skipped, or without work) held none."""
    ran = [task["id"] for task in tasks if task["pid"] is not None]
    held = stage.slots.seconds(ran, LAST_LINE)
    found = {_label(task): held.get(task["id"], 0.0) for task in tasks}
    return {label: None if seconds is None else round(seconds, 2) for label, seconds in found.items()}


def _label(task: dict[str, Any]) -> str:
    return str(task["task_id"]) if task["map_index"] < 0 else f"{task['task_id']}[{task['map_index']}]"


def _times(task: dict[str, Any], begin: float) -> list[float | None]:
    moments = (task["start_date"], task["end_date"])
    return [None if each is None else round(datetime.fromisoformat(each).timestamp() - begin, 3) for each in moments]
