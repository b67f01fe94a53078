"""One DAG run of an event test, and what it left: processes, files, lines of the witness."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
from dask_provider.triggers.base import WAITING

from dev.airflow_server import AirflowServer, TaskInstance


class Run:
    """A run of one of the DAGs in ``dags/events.py``, with a witness file and a place for results of its own.

    :param gated: the job's program goes on until :attr:`gate` is there.
    """

    def __init__(self, server: AirflowServer, folder: Path, dag_id: str, *, gated: bool = False, **conf: Any) -> None:
        self.server, self.client, self.dag_id = server, server.client, dag_id
        self.witness = folder / "witness"
        self.results = folder / "results"
        self.gate = folder / "gate"
        paths = {"witness": str(self.witness), "results": str(self.results)}
        if gated:
            paths["gate"] = str(self.gate)
        self.run_id = self.client.trigger(dag_id, {"seconds": 1, **conf, **paths})

    # --- Airflow ---

    def until(
        self, task_id: str, *states: str, try_number: int | None = None, index: int = -1, timeout: float = 240
    ) -> TaskInstance:
        return self.client.wait_for_task(
            self.dag_id, self.run_id, task_id, states, index, try_number=try_number, timeout=timeout
        )

    def end(self, timeout: float = 240) -> str:
        return self.client.wait_for_run(self.dag_id, self.run_id, timeout=timeout)

    def mark(self, task_id: str, state: str, index: int = -1) -> None:
        self.client.set_task_state(self.dag_id, self.run_id, task_id, state, index)

    def log(self, task_id: str, try_number: int | None = None, index: int = -1) -> str:
        return self.client.task_log(self.dag_id, self.run_id, task_id, try_number, index)

    def states(self) -> dict[str, str | None]:
        return {instance.label: instance.state for instance in self.client.task_instances(self.dag_id, self.run_id)}

    def xcom(self, task_id: str, index: int = -1) -> Any:
        return self.client.xcom(self.dag_id, self.run_id, task_id, map_index=index)

    def until_said(self, task_id: str, words: str, times: int = 1, try_number: int | None = None) -> None:
        """The task's log says it, so many times."""
        wait_until(lambda: self.log(task_id, try_number).count(words) >= times, words)

    def lines(self, task_id: str, try_number: int | None = None) -> list[str]:
        """Those that the program counts, as the task's log shows them."""
        return [line for line in self.log(task_id, try_number).splitlines() if line.startswith("line")]

    def counted(self, task_id: str) -> list[str]:
        """The same as they must be, by what the program says at its end."""
        total = int(self.lines(task_id)[-1].rpartition("all: ")[2])
        return [*(f"line {number}" for number in range(1, total + 1)), f"lines in all: {total}"]

    # --- the witness ---

    def starts(self, suffix: str = "") -> int:
        return self.notes("start", suffix)

    def ends(self, suffix: str = "") -> int:
        return self.notes("end", suffix)

    def notes(self, what: str, suffix: str = "") -> int:
        """How many lines begin with that word."""
        path = Path(f"{self.witness}{suffix}")
        return sum(line.startswith(what) for line in path.read_text().splitlines()) if path.exists() else 0

    def until_started(self, count: int = 1, suffix: str = "", timeout: float = 120) -> None:
        """The job's program has begun ``count`` times."""
        deadline = time.monotonic() + timeout
        while self.starts(suffix) < count:
            assert time.monotonic() < deadline, f"{self.starts(suffix)} starts of {count}; {self.states()}"
            time.sleep(0.1)

    def until_followed(self, task_id: str, mode: str, index: int = -1) -> None:
        """A deferred task's trigger runs: before that, in the second or two after the deferral, nobody can cancel."""
        deadline = time.monotonic() + 60
        while mode == "deferred" and WAITING not in self.log(task_id, index=index).rpartition("as DEFERRED")[2]:
            assert time.monotonic() < deadline, self.log(task_id, index=index)
            time.sleep(0.3)

    def pids(self, suffix: str = "") -> list[int]:
        """Process ids of the job's program, one a start."""
        path = Path(f"{self.witness}{suffix}")
        return [int(line.split()[2]) for line in path.read_text().splitlines() if line.startswith("start")]

    # --- what is left ---

    def folders(self) -> list[Path]:
        """Records of this run's clusters and jobs on the host."""
        state = self.server.home / "dask"
        records = [*state.glob("clusters/*/cluster.json"), *state.glob("jobs/*/*/record.json")]
        return [path.parent for path in records if json.loads(path.read_text())["owner"]["run_id"] == self.run_id]

    def processes(self, *forgotten: Path) -> list[psutil.Process]:
        """All processes of this run's clusters and jobs: they work in its folders, or in those given, or name them."""
        folders = [*self.folders(), *forgotten]
        found = []
        for process in psutil.process_iter():
            try:
                where = Path(process.cwd())
                words = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(where.is_relative_to(folder) or str(folder) in words for folder in folders):
                found.append(process)
        return found

    def assert_gone(self, within: float = 35, *forgotten: Path) -> None:
        """Nothing of the run's clusters and jobs is left; sooner than their lease ends an idle cluster, after 40 s."""
        _until_none(lambda: self.processes(*forgotten), within)

    def keepers(self) -> list[int]:
        """Process ids of the keepers: one for each cluster that lives."""
        keeper = "-m dask_provider.runtime keeper "
        return [process.pid for process in self.processes() if _words(process).split(" ", 1)[-1].startswith(keeper)]

    def cluster_uid(self) -> str:
        folder = next(folder for folder in self.folders() if (folder / "cluster.json").exists())
        return str(json.loads((folder / "cluster.json").read_text())["uid"])


def wait_until(look: Callable[[], Any], what: str, within: float = 120) -> None:
    deadline = time.monotonic() + within
    while not look():
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(0.3)


def _until_none(look: Any, within: float) -> None:
    deadline = time.monotonic() + within
    while left := look():
        assert time.monotonic() < deadline, f"left after {within} s: {[(p.pid, _words(p)) for p in left]}"
        time.sleep(0.2)


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "(gone)"


def overlapping(pids: Iterable[int]) -> list[int]:
    """Those of the processes that run now."""
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
