"""Everything that differs between Airflow 2.11 and 3.x lives here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, TaskGroup, XComArg

    AIRFLOW_3 = True
except ImportError:
    from airflow.hooks.base import BaseHook
    from airflow.models.baseoperator import BaseOperator
    from airflow.models.baseoperatorlink import BaseOperatorLink
    from airflow.models.xcom_arg import XComArg
    from airflow.utils.task_group import TaskGroup

    AIRFLOW_3 = False

try:
    from airflow.sdk.configuration import conf
except ImportError:
    from airflow.configuration import conf

try:
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
    )
except ImportError:
    from airflow.exceptions import (
        AirflowFailException,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
    )

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "AIRFLOW_3",
    "AirflowFailException",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseTrigger",
    "DecoratedOperator",
    "EmptyOperator",
    "TaskDeferralError",
    "TaskGroup",
    "TriggerEvent",
    "XComArg",
    "conf",
    "counts_deferred",
    "current_context",
    "missing_value",
    "open_object_storage",
    "run_is_over",
    "task_decorator_factory",
    "task_state",
    "xcom_of_link",
]


def current_context() -> Any:
    """The context of the running task."""
    try:
        from airflow.sdk import get_current_context
    except ImportError:
        from airflow.operators.python import get_current_context
    return get_current_context()


def missing_value(error: Exception) -> str | None:
    """What a template names and is not there, as a variable of Airflow; ``None``: it failed for another reason."""
    from jinja2 import UndefinedError

    if isinstance(error, UndefinedError):
        return str(error)
    if not AIRFLOW_3:
        return str(error.args[0]) if isinstance(error, KeyError) and error.args else None
    from airflow.sdk.exceptions import AirflowRuntimeError

    if isinstance(error, AirflowRuntimeError) and error.error.error.value.endswith("_NOT_FOUND"):
        return str((error.error.detail or {}).get("message", error))
    return None


def task_state(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """State of a task instance as Airflow's database has it now; ``"none"`` when it has none, or is not there.

    Blocks: call it in a thread with a time limit. Works in task processes and in triggers.
    """
    if AIRFLOW_3:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        states: Mapping[str, Mapping[str, Any]] = RuntimeTaskInstance.get_task_states(
            dag_id=dag_id, task_ids=[task_id], run_ids=[run_id], map_index=map_index if map_index >= 0 else None
        )
        of_run = states.get(run_id, {})
        state = of_run.get(task_id if map_index < 0 else f"{task_id}_{map_index}")
        return str(getattr(state, "value", state)).lower()

    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        row = (
            session.query(TaskInstance.state)
            .filter_by(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
            .one_or_none()
        )
    state = row[0] if row else None
    return str(getattr(state, "value", state)).lower()


def run_is_over(dag_id: str, run_id: str) -> bool:
    """Whether the DAG run is neither queued nor running (also: not there any more). Blocks."""
    if AIRFLOW_3:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        count = RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=["queued", "running"])
        return bool(count == 0)

    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        going = session.query(DagRun.run_id).filter_by(dag_id=dag_id, run_id=run_id)
        return bool(going.filter(DagRun.state.in_(["queued", "running"])).count() == 0)


def open_object_storage(uri: str, conn_id: str | None) -> Any:
    """Airflow's path object for a URI: filesystem and credentials come from the Airflow connection."""
    try:
        from airflow.sdk import ObjectStoragePath
    except ImportError:
        from airflow.io.path import ObjectStoragePath
    return ObjectStoragePath(uri, conn_id=conn_id)


def xcom_of_link(ti_key: Any, key: str) -> Any:
    """An XCom value for an extra link, which knows only the key of the task instance."""
    try:
        from airflow.sdk.execution_time.xcom import XCom
    except ImportError:
        from airflow.models.xcom import XCom
    return XCom.get_value(ti_key=ti_key, key=key)


def counts_deferred() -> bool:
    """Whether ``max_active_tis_per_dagrun`` counts deferred tasks, too; older Airflows forget about them."""
    try:
        from airflow.ti_deps.dependencies_states import ACTIVE_STATES  # noqa: F401
    except ImportError:
        return False
    return True


# --- stored results: connections and assets (storage.py, operators/results.py) ---


def connection_exists(conn_id: str) -> bool:
    """Whether Airflow knows a connection. Asked first: the Amazon hook takes an unknown one for an empty one."""
    try:
        from airflow.sdk.exceptions import AirflowNotFoundException
    except ImportError:
        from airflow.exceptions import AirflowNotFoundException
    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return False
    return True


def asset(uri: str) -> Any:
    """An asset (2.11: a dataset) that is known by its URI."""
    try:
        from airflow.sdk import Asset
    except ImportError:
        from airflow.datasets import Dataset as Asset
    return Asset(uri=uri)


def made_from_mapped(operator: Any) -> bool:
    """Whether an operator that is just being made is one task of a mapped one, in the worker."""
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def set_asset_extra(context: Mapping[str, Any], outlets: Iterable[Any], uri: str, extra: dict[str, Any]) -> None:
    """Put ``extra`` on the event of each asset among the outlets; an alias gets the asset ``uri`` for this run."""
    try:
        from airflow.sdk import Asset, AssetAlias
    except ImportError:
        from airflow.datasets import Dataset as Asset
        from airflow.datasets import DatasetAlias as AssetAlias
    events = context["outlet_events"]
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            events[outlet].add(asset(uri), extra=extra)
        elif isinstance(outlet, Asset):
            events[outlet].extra = extra


# --- what an operator's own module need not import: each costs milliseconds in every task ---


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("BaseTrigger", "TriggerEvent"):
        module = "airflow.triggers.base"
    elif name in ("DecoratedOperator", "task_decorator_factory"):
        module = "airflow.sdk.bases.decorator" if AIRFLOW_3 else "airflow.decorators.base"
    elif name == "EmptyOperator":
        module = "airflow.providers.standard.operators.empty" if AIRFLOW_3 else "airflow.operators.empty"
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
