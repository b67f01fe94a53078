"""How long tasks have occupied a worker slot, by the word of Airflow's own supervisors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

# Written by the process that holds the slot, each time a task leaves it: at its end, and when it defers.
_FINISHED = re.compile(r"Workload finished\b.*")
_FIELD = re.compile(r"\b(\w+)=(\S+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: a task that leaves its slot so comes back to one
_COMES_BACK = ("deferred", "up_for_reschedule")


class Slots:
    """Reads what the workers of a LocalExecutor write into the scheduler's log."""

    def __init__(self, home: Path) -> None:
        self._log, self._position = home / "logs" / "scheduler.log", 0
        self._seconds: dict[str, float] = {}
        self._over: set[str] = set()

    def seconds(self, task_instances: Iterable[str], patience: float) -> dict[str, float | None]:
        """Seconds of all stays of task instances that are over, each named by its id; ``None``: nobody says.

        An id is that of one try: Airflow gives the next one another.

        :param patience: seconds to wait for the last word on each: the line comes after the task's own end.
        """
        wanted, until = list(task_instances), time.monotonic() + patience
        self._read()
        while not self._over.issuperset(wanted) and time.monotonic() < until:
            time.sleep(0.1)
            self._read()
        return {each: self._seconds[each] if each in self._over else None for each in wanted}

    def _read(self) -> None:
        with self._log.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in _COLOURS.sub("", whole.decode(errors="replace")).splitlines():
            if found := _FINISHED.search(line):
                fields = dict(_FIELD.findall(found[0]))
                name, stayed = fields["workload_id"], float(fields["duration"])
                self._seconds[name] = self._seconds.get(name, 0.0) + stayed
                if fields.get("final_state") not in _COMES_BACK:
                    self._over.add(name)
