"""How long tasks have occupied a worker slot, by the word of Airflow's own supervisors."""

from __future__ import annotations

import re
from pathlib import Path

# Written by the process that holds the slot, each time a task leaves it: at its end, and when it defers.
_FINISHED = re.compile(r"Workload finished\b.*")
_FIELD = re.compile(r"\b(\w+)=(\S+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Slots:
    """Reads what the workers of a LocalExecutor write into the scheduler's log."""

    def __init__(self, home: Path) -> None:
        self._log, self._position = home / "logs" / "scheduler.log", 0
        self._seconds: dict[str, float] = {}

    def seconds(self, task_instance: str) -> float:
        """Seconds of all tries and all stays of a task instance, named by its id."""
        self._read()
        return self._seconds.get(task_instance, 0.0)

    def _read(self) -> None:
        with self._log.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in _COLOURS.sub("", whole.decode(errors="replace")).splitlines():
            if found := _FINISHED.search(line):
                fields = dict(_FIELD.findall(found[0]))
                stayed = float(fields["duration"])
                self._seconds[fields["workload_id"]] = self._seconds.get(fields["workload_id"], 0.0) + stayed
