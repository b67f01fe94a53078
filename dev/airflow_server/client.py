"""What one can ask of a running Airflow, the same for 2.11 and 3.x."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from dev.airflow_server import logs

T = TypeVar("T")
FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
TaskSelection = Sequence["str | tuple[str, int]"]


class AirflowError(RuntimeError):
    """Airflow said no, or not in time."""


@dataclass(frozen=True)
class TaskInstance:
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    max_tries: int
    start_date: datetime | None
    end_date: datetime | None
    duration: float | None
    operator: str | None
    pid: int | None
    """The process that runs the task's code; its parent is the supervisor. Kept by Airflow after its end."""
    trigger_id: int | None
    """Set while deferred."""

    @property
    def label(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @classmethod
    def of(cls, fields: dict[str, Any]) -> TaskInstance:
        values: dict[str, Any] = {name: fields.get(name) for name in cls.__dataclass_fields__}
        for name in ("start_date", "end_date"):
            if (text := values[name]) is not None:
                values[name] = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return cls(**values)


class AirflowClient(abc.ABC):
    """Task and run ids as Airflow shows them; `map_index` -1 means a task that is not mapped."""

    def __init__(self, home: Path) -> None:
        self.home = home

    # What the two versions do differently.

    @abc.abstractmethod
    def dags(self) -> list[str]:
        """Ids of the DAGs that can be triggered by now."""

    @abc.abstractmethod
    def import_errors(self) -> dict[str, str]:
        """File -> traceback."""

    @abc.abstractmethod
    def pause(self, dag_id: str, paused: bool = True) -> None: ...

    @abc.abstractmethod
    def create_run(self, dag_id: str, run_id: str | None, conf: dict[str, Any], logical_date: str | None) -> str: ...

    @abc.abstractmethod
    def run_state(self, dag_id: str, run_id: str) -> str: ...

    @abc.abstractmethod
    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """All of a run, mapped ones one by one."""

    @abc.abstractmethod
    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """As "mark success" / "mark failed" in the UI."""

    @abc.abstractmethod
    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """As "mark success" / "mark failed" of the run in the UI."""

    @abc.abstractmethod
    def clear(
        self,
        dag_id: str,
        run_id: str,
        tasks: TaskSelection | None = None,
        *,
        only_failed: bool = False,
        only_running: bool = False,
        upstream: bool = False,
        downstream: bool = False,
    ) -> list[str]:
        """Clears these (ids, or (id, map index); None: the whole run); returns the ids of the cleared tasks."""

    @abc.abstractmethod
    def xcoms(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """All XCom entries of one task instance by key."""

    # What follows from it.

    def wait_for_dag(self, dag_id: str, timeout: float = 90) -> None:
        deadline = time.monotonic() + timeout
        while dag_id not in self.dags():
            errors = self.import_errors()
            if errors:  # of this DAG's file or of another: what can be read will soon be there
                deadline = min(deadline, time.monotonic() + 10)
            if time.monotonic() > deadline:
                unread = "".join(f"\n{file}: {error}" for file, error in errors.items())
                raise AirflowError(f"DAG {dag_id!r} did not appear in time, but {self.dags()}{unread}")
            time.sleep(0.3)

    def trigger(
        self,
        dag_id: str,
        conf: dict[str, Any] | None = None,
        *,
        run_id: str | None = None,
        logical_date: str | None = None,
        timeout: float = 90,
    ) -> str:
        """Waits until the DAG is there, unpauses it and starts a run. Returns the run id."""
        self.wait_for_dag(dag_id, timeout)
        self.pause(dag_id, False)
        return self.create_run(dag_id, run_id, conf or {}, logical_date)

    def wait_for_run(
        self, dag_id: str, run_id: str, states: Iterable[str] = ("success", "failed"), timeout: float = 180
    ) -> str:
        wanted = set(states)
        return _until(
            lambda: self.run_state(dag_id, run_id),
            lambda state: state in wanted,
            timeout,
            lambda state: f"{run_id} of {dag_id} is {state!r}, not {sorted(wanted)}, {self._summary(dag_id, run_id)}",
        )

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> TaskInstance | None:
        """None: not there yet (a mapped task before it is expanded)."""
        for instance in self.task_instances(dag_id, run_id):
            if instance.task_id == task_id and instance.map_index == map_index:
                return instance
        return None

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Iterable[str],
        map_index: int = -1,
        *,
        try_number: int | None = None,
        timeout: float = 120,
    ) -> TaskInstance:
        """Until the task is in one of `states` (and, where given, in its try `try_number`)."""
        wanted = set(states)

        def there(instance: TaskInstance | None) -> bool:
            return (
                instance is not None
                and instance.state in wanted
                and (try_number is None or instance.try_number == try_number)
            )

        found = _until(
            lambda: self.task_instance(dag_id, run_id, task_id, map_index),
            there,
            timeout,
            lambda last: f"{task_id} of {run_id} did not become {sorted(wanted)}, {self._summary(dag_id, run_id)}",
        )
        assert found is not None
        return found

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """None: no such entry."""
        return self.xcoms(dag_id, run_id, task_id, map_index).get(key)

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1
    ) -> str:
        """The messages of one try (None: all tries), those written by a triggerer included, oldest first.

        Read from the files, so it works with the API server away.
        """
        files = logs.log_files(self.home / "logs", dag_id, run_id, task_id, try_number, map_index)
        return "\n".join(line.text for line in logs.read(files))

    @abc.abstractmethod
    def close(self) -> None:
        """Ends what the client itself started."""

    def _summary(self, dag_id: str, run_id: str) -> str:
        states = ", ".join(f"{instance.label}={instance.state}" for instance in self.task_instances(dag_id, run_id))
        return f"with {states or 'no task instances'}"


def _until(look: Callable[[], T], enough: Callable[[T], bool], timeout: float, complaint: Callable[[T], str]) -> T:
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if enough(seen):
            return seen
        if time.monotonic() > deadline:
            raise AirflowError(f"after {timeout:.0f} s: {complaint(seen)}")
        time.sleep(0.25)
