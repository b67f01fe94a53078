"""The parent of every process of one Airflow, so that none of them can outlive it unnoticed.

It is a *subreaper*: on Linux a process whose parent dies becomes its child, not that of process 1. So whatever
Airflow starts - also a task that outlives a killed scheduler, also what a task detaches - stays findable by
parentage, and all of it ends when the keeper is told so or when the keeper's owner is gone (its end of the pipe
closes, even after SIGKILL). Should the keeper itself be killed, the kernel ends the components.

Commands are JSON lines on stdin, one answer line each on stdout. Run: `python -m dev.airflow_server.keeper`.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.airflow_server import processes

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Keeper:
    def __init__(self) -> None:
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.detached = False
        self.finished = False

    def start(self, name: str, argv: list[str], env: dict[str, str], cwd: str, log: str) -> dict[str, Any]:
        self.reap()
        if name in self.children and self.children[name].returncode is None:
            raise RuntimeError(f"{name} runs already")
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            child = subprocess.Popen(
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # the keeper has one thread, so this is safe
            )
        self.children[name] = child
        return {"pid": child.pid}

    def status(self) -> dict[str, Any]:
        self.reap()
        return {name: {"pid": child.pid, "returncode": child.returncode} for name, child in self.children.items()}

    def signal(self, name: str, number: int, tree: bool) -> dict[str, Any]:
        self.reap()
        child = self.children[name]
        if tree:
            return {"sent": processes.send([process.pid for process in processes.family(child.pid)], number)}
        return {"sent": processes.send([child.pid], number) if child.returncode is None else 0}

    def end(self, name: str, grace: float) -> dict[str, Any]:
        pid = self.children[name].pid
        self._end(lambda: [process.pid for process in processes.family(pid)], [pid], grace)
        return {}

    def end_all(self, grace: float, spare: list[str]) -> dict[str, Any]:
        """Ends all that descends from here, except command lines that hold one of `spare`."""

        def left() -> list[int]:
            found = processes.descendants(os.getpid())
            return [process.pid for process in found if not any(text in process.command for text in spare)]

        running = [child.pid for child in self.children.values() if child.returncode is None]
        self._end(left, running, grace)
        return {}

    def detach(self) -> dict[str, Any]:
        """From now on the owner may go; SIGTERM ends the keeper."""
        self.detached = True
        return {}

    def _end(self, left: Callable[[], list[int]], asked: list[int], grace: float) -> None:
        if grace > 0:
            processes.send(left(), signal.SIGCONT)  # a stopped process takes no SIGTERM
            processes.send(asked, signal.SIGTERM)
            self._wait(lambda: not left(), grace)
        deadline = time.monotonic() + 20
        while (pids := left()) and time.monotonic() < deadline:  # again, as a dying process may have forked
            processes.send(pids, signal.SIGKILL)
            self._wait(lambda pids=pids: not set(pids) & set(left()), 2)  # type: ignore[misc]

    def _wait(self, over: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self.reap()
        while not over() and time.monotonic() < deadline:
            time.sleep(0.05)
            self.reap()

    def reap(self) -> None:
        """Takes leave of the dead, foreign orphans included: nobody else does."""
        by_pid = {child.pid: child for child in self.children.values()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                by_pid[pid].returncode = os.waitstatus_to_exitcode(status)

    def answer(self, line: bytes) -> bytes:
        command = json.loads(line)
        try:
            result = getattr(self, command.pop("do"))(**command)
        except Exception as error:  # noqa: BLE001 - the owner gets it, whatever it is
            return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n"
        return json.dumps({"result": result}).encode() + b"\n"

    def run(self) -> None:
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            while not self.finished:
                if selector.get_map() and selector.select(timeout=0.5):
                    data = os.read(0, 1 << 20)
                    if not data:
                        if not self.detached:
                            return
                        selector.unregister(0)
                    *lines, pending = (pending + data).split(b"\n")
                    for line in lines:
                        os.write(1, self.answer(line))
                elif not selector.get_map():
                    time.sleep(0.5)
                self.reap()


def main() -> None:
    if LIBC is not None:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    keeper = Keeper()

    def finish(*_: object) -> None:
        keeper.finished = True

    signal.signal(signal.SIGTERM, finish)
    signal.signal(signal.SIGINT, finish)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        keeper.run()
    finally:
        keeper.end_all(grace=2, spare=[])


if __name__ == "__main__":
    main()
