"""Looking at processes: who descends from whom, and with which command line. Standard library only.

Airflow renames its processes (setproctitle), which overwrites their environment as seen from outside, so parentage
is the only mark that can be trusted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    pid: int
    ppid: int
    session: int
    command: str


def all_processes() -> list[Process]:
    """Every living process that may be seen; zombies are left out."""
    if sys.platform == "linux":
        found = (_from_proc(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
        return [process for process in found if process is not None]
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,pgid=,stat=,args="], capture_output=True, text=True)
    rows = (line.split(None, 4) for line in listing.stdout.splitlines())
    return [
        Process(int(row[0]), int(row[1]), int(row[2]), row[4]) for row in rows if len(row) == 5 and "Z" not in row[3]
    ]


def _from_proc(pid: int) -> Process | None:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    # The name stands in brackets and may itself hold spaces and brackets.
    state, ppid, _group, session = status.rpartition(")")[2].split()[:4]
    if state in "ZX":
        return None
    return Process(pid, int(ppid), int(session), command.replace(b"\0", b" ").decode(errors="replace").strip())


def descendants(pid: int, processes: Sequence[Process] | None = None) -> list[Process]:
    """Children of `pid` and theirs, parents first; `pid` itself is left out."""
    processes = all_processes() if processes is None else processes
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.ppid, []).append(process)
    found: list[Process] = []
    parents = [pid]
    while parents:
        born = [child for parent in parents for child in children.get(parent, ())]
        found += born
        parents = [child.pid for child in born]
    return found


def family(pid: int) -> list[Process]:
    """`pid`, all that descend from it, and all of its session (children whose parent has died are still there)."""
    processes = all_processes()
    members = {process.pid: process for process in processes if process.pid == pid or process.session == pid}
    for member in list(members):
        members.update((process.pid, process) for process in descendants(member, processes))
    return list(members.values())


def send(pids: Iterable[int], number: int) -> int:
    """Signals each; those that are gone already are fine. Returns how many were there."""
    sent = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            sent += 1
    return sent


def alive(pid: int) -> bool:
    if sys.platform == "linux":
        return _from_proc(pid) is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def end(pids: Iterable[int], grace: float) -> None:
    """SIGTERM, up to `grace` seconds, SIGKILL. For processes that are not our children."""
    remaining = list(pids)
    send(remaining, signal.SIGCONT)  # a stopped process takes no SIGTERM
    send(remaining, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while remaining and time.monotonic() < deadline:
        time.sleep(0.05)
        remaining = [pid for pid in remaining if alive(pid)]
    send(remaining, signal.SIGKILL)
