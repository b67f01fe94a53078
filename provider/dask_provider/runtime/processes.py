"""Processes that outlive their starter, and processes that must not.

A process is known by its number *and* its start time, so that a re-used number never gets a stranger killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .records import write_record

#: Replaces itself by the command; the kernel kills that when its parent is gone (Linux). Text, because the runtime
#: may be a zip archive; run with -I -S it costs some 15 ms and, unlike preexec_fn, is safe beside threads.
_BOUND = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is already gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def bound_to_me(command: list[str]) -> list[str]:
    """The command, changed so that it dies with this process. Start it from the main thread (Linux counts threads)."""
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), *command]


def start_time(pid: int) -> str | None:
    """When the process was started, as text that only makes sense on this host and boot; ``None``: no such process."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def identity(pid: int) -> dict[str, Any]:
    """The record by which a process is found again."""
    return {"pid": pid, "started": start_time(pid)}


def alive(record: dict[str, Any] | None) -> bool:
    """Whether the very process of the record still runs."""
    return record is not None and record["started"] is not None and start_time(record["pid"]) == record["started"]


def send_signal(record: dict[str, Any] | None, number: signal.Signals, *, group: bool = False) -> bool:
    """Signal the process, or with ``group`` the process group that it leads; ``False`` when it is already gone."""
    if record is None or not alive(record):
        return False
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(record["pid"], number)
        return True
    return False


def kill_session(leader: dict[str, Any] | None, job_id: str) -> None:
    """SIGKILL for all that a program has started in its session, also when the program itself is gone.

    The number of a session may be another one's by then, so each must know the job by its environment.
    """
    import psutil

    if leader is None:
        return
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader["pid"] and process.environ().get("DASK_JOB_ID") == job_id:
                process.kill()


def wait_dead(records: list[dict[str, Any]], seconds: float) -> bool:
    """Wait until none of the processes runs any more; ``False`` when some still do after ``seconds``."""
    deadline = time.monotonic() + seconds
    while any(map(alive, records)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def main(arguments: list[str]) -> int:
    """``detach RECORD LOG -- COMMAND ...``: start a process that nobody waits for, in a session of its own.

    Returns when the record of its identity is written: whoever called knows then that it can be found again. It must
    be re-parented here and not in the caller: Airflow 2 kills all descendants of a task.
    """
    record, log, _, *command = arguments
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        return 0 if os.read(told, 1) else 1
    os.close(told)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    write_record(Path(record), identity(os.getpid()))
    os.write(tell, b"1")
    os.close(tell)
    os.closerange(3, 256)
    os.execvp(command[0], command)
    raise AssertionError("exec came back")
