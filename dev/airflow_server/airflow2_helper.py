"""Runs under the Python of Airflow 2.11: JSON lines in, JSON lines out. What the web server's buttons do, as functions.

Executed as a file, so it imports nothing of this package.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

# Airflow and its warnings print to stdout: keep that channel for the answers alone.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from airflow.api.common.mark_tasks import set_dag_run_state_to_failed, set_dag_run_state_to_success  # noqa: E402
from airflow.api.common.trigger_dag import trigger_dag  # noqa: E402
from airflow.models import DagModel, DagRun, TaskInstance, XCom  # noqa: E402
from airflow.models.errors import ParseImportError  # noqa: E402
from airflow.models.serialized_dag import SerializedDagModel  # noqa: E402
from airflow.utils import timezone  # noqa: E402
from airflow.utils.session import create_session  # noqa: E402
from airflow.utils.state import TaskInstanceState  # noqa: E402

FIELDS = ("task_id", "map_index", "state", "try_number", "max_tries", "duration", "operator", "pid", "trigger_id")


def _dag(dag_id: str) -> Any:
    dag = SerializedDagModel.get_dag(dag_id)
    if dag is None:
        raise ValueError(f"no DAG {dag_id!r}")
    return dag


def _run(session: Any, dag_id: str, run_id: str) -> Any:
    run = session.query(DagRun).filter_by(dag_id=dag_id, run_id=run_id).one_or_none()
    if run is None:
        raise ValueError(f"no run {run_id!r} of {dag_id!r}")
    return run


def dags() -> list[str]:
    with create_session() as session:
        known = {dag_id for (dag_id,) in session.query(SerializedDagModel.dag_id)}
        active = {dag_id for (dag_id,) in session.query(DagModel.dag_id).filter(DagModel.is_active)}
    return sorted(known & active)


def import_errors() -> dict[str, str]:
    with create_session() as session:
        return {error.filename: error.stacktrace for error in session.query(ParseImportError)}


def pause(dag_id: str, paused: bool) -> None:
    with create_session() as session:
        session.query(DagModel).filter_by(dag_id=dag_id).update({"is_paused": paused})


def create_run(dag_id: str, run_id: str | None, conf: dict[str, Any], logical_date: str | None) -> str:
    date = timezone.parse(logical_date) if logical_date else None
    # With microseconds, or two runs of one second would have the same id.
    run = trigger_dag(dag_id=dag_id, run_id=run_id, conf=conf, execution_date=date, replace_microseconds=False)
    return str(run.run_id)


def run_state(dag_id: str, run_id: str) -> str:
    with create_session() as session:
        return str(_run(session, dag_id, run_id).state)


def task_instances(dag_id: str, run_id: str) -> list[dict[str, Any]]:
    with create_session() as session:
        rows = session.query(TaskInstance).filter_by(dag_id=dag_id, run_id=run_id)
        return [
            {
                **{name: getattr(row, name) for name in FIELDS},
                "start_date": row.start_date and row.start_date.isoformat(),
                "end_date": row.end_date and row.end_date.isoformat(),
            }
            for row in rows.order_by(TaskInstance.start_date, TaskInstance.task_id, TaskInstance.map_index)
        ]


def set_task_state(dag_id: str, run_id: str, task_id: str, state: str, map_index: int) -> None:
    changed = _dag(dag_id).set_task_instance_state(
        task_id=task_id,
        map_indexes=None if map_index < 0 else [map_index],
        run_id=run_id,
        state=TaskInstanceState(state),
    )
    if not changed:
        raise ValueError(f"{task_id!r} (map index {map_index}) of {run_id!r} was not changed to {state!r}")


def set_run_state(dag_id: str, run_id: str, state: str) -> None:
    change = {"success": set_dag_run_state_to_success, "failed": set_dag_run_state_to_failed}[state]
    change(dag=_dag(dag_id), run_id=run_id, commit=True)


def clear(
    dag_id: str,
    run_id: str,
    tasks: list[str | list[Any]] | None,
    only_failed: bool,
    only_running: bool,
    upstream: bool,
    downstream: bool,
) -> list[str]:
    dag = _dag(dag_id)
    with create_session() as session:
        date = _run(session, dag_id, run_id).logical_date
    chosen: list[str | tuple[str, int]] | None = None
    if tasks is not None:
        chosen = [task if isinstance(task, str) else (task[0], task[1]) for task in tasks]
        named = {task if isinstance(task, str) else task[0] for task in chosen}
        # As the "clear" button does: the subset also holds setups and teardowns that the tasks need.
        dag = dag.partial_subset(list(named), include_upstream=upstream, include_downstream=downstream)
        chosen += [task_id for task_id in dag.task_dict if task_id not in named]
    selection: dict[str, Any] = {
        "task_ids": chosen,
        "start_date": date,
        "end_date": date,
        "only_failed": only_failed,
        "only_running": only_running,
    }
    cleared = sorted({instance.task_id for instance in dag.clear(**selection, dry_run=True)})
    dag.clear(**selection)
    return cleared


def xcoms(dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
    with create_session() as session:
        rows = session.query(XCom).filter_by(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
        return {row.key: row.value for row in rows}  # deserialized as it is loaded


OPERATIONS = {
    function.__name__: function
    for function in (
        dags,
        import_errors,
        pause,
        create_run,
        run_state,
        task_instances,
        set_task_state,
        set_run_state,
        clear,
        xcoms,
    )
}


def main() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"result": OPERATIONS[command.pop("do")](**command)}
        except Exception as error:  # noqa: BLE001 - the caller gets it, whatever it is
            answer = {"error": f"{type(error).__name__}: {error}"}
        ANSWERS.write(json.dumps(answer, default=str) + "\n")
        ANSWERS.flush()


if __name__ == "__main__":
    main()
