"""Processes of this machine, found by a variable of their environment: it passes to every child, detached or not."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def find(variable: str, value: str) -> list[int]:
    """The living processes that were started with this variable."""
    return [pid for pid, found in values(variable).items() if found == value]


def values(variable: str) -> dict[int, str]:
    """The living processes that were started with this variable, and what it says."""
    begin, found = f"{variable}=".encode(), {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            entries = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # gone in this moment, or of another user
            continue
        for entry in entries:
            if entry.startswith(begin):
                found[int(folder.name)] = entry[len(begin) :].decode(errors="replace")
    return found


def alive(pid: int) -> bool:
    """Whether it is there, and not only its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def send(pids: list[int], how: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            continue
