"""Airflow 2.11, where no web server runs: a helper process of its Python does what is asked (airflow2_helper.py)."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dev.airflow_server.client import AirflowClient, AirflowError, TaskInstance, TaskSelection

HELPER = Path(__file__).with_name("airflow2_helper.py")


class Airflow2Client(AirflowClient):
    def __init__(self, home: Path, python: Path, environment: Mapping[str, str]) -> None:
        super().__init__(home)
        self._python = python
        self._environment = dict(environment)
        self._helper: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def call(self, operation: str, **arguments: Any) -> Any:
        with self._lock:
            helper = self._running_helper()
            assert helper.stdin is not None
            assert helper.stdout is not None
            helper.stdin.write(json.dumps({"do": operation, **arguments}) + "\n")
            helper.stdin.flush()
            line = helper.stdout.readline()
        if not line:
            raise AirflowError(f"{operation}: the helper process ended, see {self.home / 'logs' / 'helper.log'}")
        answer = json.loads(line)
        if "error" in answer:
            raise AirflowError(f"{operation}: {answer['error']}")
        return answer["result"]

    def _running_helper(self) -> subprocess.Popen[str]:
        if self._helper is None or self._helper.poll() is not None:
            with open(self.home / "logs" / "helper.log", "ab") as log:
                # It ends when its stdin closes, so also when this process is killed.
                self._helper = subprocess.Popen(
                    [str(self._python), str(HELPER)],
                    env=self._environment,
                    cwd=self.home,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )
        return self._helper

    def close(self) -> None:
        if self._helper is not None:
            assert self._helper.stdin is not None
            self._helper.stdin.close()
            try:
                self._helper.wait(5)
            except subprocess.TimeoutExpired:
                self._helper.kill()
                self._helper.wait()
            if self._helper.stdout is not None:
                self._helper.stdout.close()
            self._helper = None

    def dags(self) -> list[str]:
        return list(self.call("dags"))

    def import_errors(self) -> dict[str, str]:
        return dict(self.call("import_errors"))

    def pause(self, dag_id: str, paused: bool = True) -> None:
        self.call("pause", dag_id=dag_id, paused=paused)

    def create_run(self, dag_id: str, run_id: str | None, conf: dict[str, Any], logical_date: str | None) -> str:
        return str(self.call("create_run", dag_id=dag_id, run_id=run_id, conf=conf, logical_date=logical_date))

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.call("run_state", dag_id=dag_id, run_id=run_id))

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        return [TaskInstance.of(fields) for fields in self.call("task_instances", dag_id=dag_id, run_id=run_id)]

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        self.call("set_task_state", dag_id=dag_id, run_id=run_id, task_id=task_id, state=state, map_index=map_index)

    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        self.call("set_run_state", dag_id=dag_id, run_id=run_id, state=state)

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
        return list(
            self.call(
                "clear",
                dag_id=dag_id,
                run_id=run_id,
                tasks=tasks,
                only_failed=only_failed,
                only_running=only_running,
                upstream=upstream,
                downstream=downstream,
            )
        )

    def xcoms(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        return dict(self.call("xcoms", dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index))
