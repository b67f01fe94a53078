"""CPU seconds and memory of processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil


def output(command: Sequence[str], env: Mapping[str, str], timeout: float = 300) -> str:
    """What it prints."""
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def reaped_cpu() -> float:
    """User and system seconds of all children that have ended so far, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def tree_cpu(root: int) -> float:
    """User and system seconds so far of a process, its living descendants, and those that these have outlived.

    `root` must adopt orphans (a subreaper), or the time of detached processes is missing.
    """
    total = 0.0
    for process in _family(root):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
        total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def machine_cpu() -> float:
    """Seconds that all cores together have been busy since boot."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    return int(psutil.Process(pid).memory_info().rss)


def wait_until_calm(limit: float = 20.0) -> None:
    """Returns once the machine has been at most a quarter busy for two seconds; after `limit` seconds in any case."""
    deadline = time.monotonic() + limit
    cores = os.cpu_count() or 1
    while time.monotonic() < deadline:
        before, begin = machine_cpu(), time.monotonic()
        time.sleep(2)
        if machine_cpu() - before < 0.25 * cores * (time.monotonic() - begin):
            return


def clean_environment() -> dict[str, str]:
    """The caller's environment without settings of Airflow, Python or Dask."""
    unwanted = ("AIRFLOW", "_AIRFLOW", "DASK_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])}


def _family(root: int) -> list[psutil.Process]:
    process = psutil.Process(root)
    return [process, *process.children(recursive=True)]
