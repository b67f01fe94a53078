"""One DAG run as it happens: every change of a task's state, and what tasks and jobs write to their logs."""

from __future__ import annotations

import time
from pathlib import Path

from dev.airflow_server import AirflowClient, TaskInstance
from dev.airflow_server.logs import LogFollower, LogLine, log_files

SHOWN_STATES = {None: "waits", "up_for_retry": "failed, will be tried again", "upstream_failed": "not run"}


class Watch:
    def __init__(self, client: AirflowClient, dag_id: str, run_id: str) -> None:
        self._client = client
        self._dag_id, self._run_id = dag_id, run_id
        self._began = time.monotonic()
        self._states: dict[str, str | None] = {}
        self._logs = LogFollower()
        self._width = 8

    def until_finished(self) -> str:
        """Prints until the run is over; returns its state."""
        while True:
            # The state first: whatever is written before the run ends is then shown below.
            state = self._client.run_state(self._dag_id, self._run_id)
            for instance in self._client.task_instances(self._dag_id, self._run_id):
                self._show(instance)
            if state in ("success", "failed"):
                return state
            time.sleep(0.5)

    def _show(self, instance: TaskInstance) -> None:
        name, state = instance.label, instance.state
        self._width = max(self._width, len(name))
        changed = state != self._states.get(name)
        ended = changed and instance.finished
        if changed and not ended:
            self._say_state(name, state)
        if state not in (None, "scheduled", "queued") or name in self._states:
            for line in self._logs.new_lines(self._files(instance)):
                if _worth_showing(line):
                    self._say(name, f"| {line.text}")
        if ended:
            self._say_state(name, state)
        self._states[name] = state

    def _files(self, instance: TaskInstance) -> list[Path]:
        folder = self._client.home / "logs"
        return log_files(folder, self._dag_id, self._run_id, instance.task_id, None, instance.map_index)

    def _say_state(self, name: str, state: str | None) -> None:
        if state not in (None, "scheduled", "queued"):
            self._say(name, SHOWN_STATES.get(state, str(state)))

    def _say(self, name: str, text: str) -> None:
        elapsed = time.monotonic() - self._began
        for line in text.splitlines() or [""]:
            print(f"{elapsed:6.1f} s  {name:<{self._width}}  {line}", flush=True)


def _worth_showing(line: LogLine) -> bool:
    """Our own steps, what jobs print, and anything that went wrong; not Airflow's own talk."""
    ours = "dask_provider" in line.logger or line.logger.startswith("task.std")
    return bool(line.text) and (ours or line.level in ("warning", "error", "critical"))
