"""The processes of a test cluster: started apart from whoever starts them, found again by their records, and ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Where Debian keeps what the daemons call: iptables, nft, runc.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Joins the control group $0 before it becomes the daemon; with an empty $0 it joins none.
_BECOME = """
if [ -n "$0" ]; then for kind in pids cpuacct memory; do echo $$ >"/sys/fs/cgroup/$kind/$0/cgroup.procs"; done; fi
cd /; umask 022; exec "$@"
"""


class Daemons:
    """Processes by name, recorded in ``folder``; their output goes to ``logs``.

    :param group: the control group that they belong to, below the root of every hierarchy, or nothing.
    """

    def __init__(self, folder: Path, logs: Path, group: str = "") -> None:
        self.folder, self.logs, self.group = folder, logs, group
        self._children: list[subprocess.Popen[bytes]] = []

    def names(self) -> list[str]:
        return [record.stem for record in self.folder.glob("*.json")]

    def launch(self, name: str, command: Sequence[str] = (), env: Mapping[str, str] | None = None) -> int:
        """Start it: with this command, or the one it had before."""
        if not command:
            before = self._record(name)
            command, env = before["command"], before["env"]
        everything = {"PATH": PATH, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8", **(env or {})}
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-ec", _BECOME, self.group, *command],
                env=everything,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(process)
        what = {"pid": process.pid, "started": _started(process.pid), "command": list(command), "env": dict(env or {})}
        self._write(name, what)
        return process.pid

    def command(self, name: str) -> list[str]:
        """With what it was started the last time."""
        return list(self._record(name)["command"])

    def pid(self, name: str) -> int | None:
        """The process, if it lives."""
        record = self._record(name)
        self.reap()
        started = record.get("started")
        return int(record["pid"]) if started is not None and _started(record["pid"]) == started else None

    def dead(self) -> list[str]:
        """Who died and was not ended."""
        return [name for name in self.names() if not self._record(name).get("ended") and self.pid(name) is None]

    def end(self, name: str, how: signal.Signals) -> None:
        """Signal it and wait until it is gone; what takes longer than 10 s is killed."""
        pid = self.pid(name)
        self._write(name, {**self._record(name), "ended": True})
        if pid is None:
            return
        os.kill(pid, how)
        until = time.monotonic() + 10
        while self.pid(name) is not None:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def end_all(self) -> None:
        """Kill all that were started, and everything in their control group: containers too."""
        for name in self.names():
            self.end(name, signal.SIGKILL)
        until = time.monotonic() + 30
        while self.group and (pids := _members(self.group)):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.reap()
            if time.monotonic() > until:
                raise RuntimeError(f"processes {pids} do not end")
            time.sleep(0.02)
        self.reap()

    def log(self, name: str, lines: int = 5) -> str:
        path = self.logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]

    def _record(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / f"{name}.json").read_text()))
        except (OSError, ValueError):  # never started, or its starter was killed while it wrote
            return {}

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        if self.folder.is_dir():
            (self.folder / f"{name}.json").write_text(json.dumps(record))


def make_groups(group: str) -> None:
    """A control group for daemons and pods in every hierarchy of version 1."""
    for hierarchy in _hierarchies():
        (hierarchy / group).mkdir(parents=True, exist_ok=True)
        if (hierarchy / "cpuset.cpus").exists():  # a new group has no processors until it is told
            for below in (group.split("/")[0], group):
                for what in ("cpuset.cpus", "cpuset.mems"):
                    (hierarchy / below / what).write_text((hierarchy / what).read_text())


def remove_groups(group: str) -> None:
    """Remove a control group and all below it, once their last processes are gone."""
    until = time.monotonic() + 10
    for top in [hierarchy / group for hierarchy in _hierarchies()]:
        while top.exists():
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    continue
            if top.exists():
                if time.monotonic() > until:
                    raise RuntimeError(f"{top} cannot be removed")
                time.sleep(0.05)


def _hierarchies() -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir() and path.is_mount()]


def _members(group: str) -> set[int]:
    top = Path("/sys/fs/cgroup/pids") / group.split("/")[0]
    pids: set[int] = set()
    for folder, _, _ in os.walk(top):
        try:
            pids |= {int(line) for line in (Path(folder) / "cgroup.procs").read_text().split()}
        except OSError:  # removed in this moment
            continue
    return pids


def _started(pid: int) -> str | None:
    """When a living process began: tells it from a later one with the same number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def which(program: str) -> str:
    """The path of a program of this machine, wherever Debian put it."""
    return shutil.which(program, path=PATH) or program
