"""Nodes outlive who started them: here they are cleared away. Where that was killed, too, the next start does it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.dataproc import processes
from tests.servers.dataproc.node import networks
from tests.servers.dataproc.node.namespaces import LOCK
from tests.servers.kubernetes.cached import locked

_REGISTRY = LOCK.with_name("dataproc-nodes")


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """The nodes in ``folder`` end with this block, and with this process.

    :param folder: as :class:`~tests.servers.dataproc.node.namespaces.NamespaceNodes` gets it.
    """
    _REGISTRY.mkdir(parents=True, exist_ok=True)
    _sweep()
    record = _REGISTRY / f"{uuid.uuid4().hex}.json"
    record.write_text(json.dumps({"pid": os.getpid(), "started": _started(os.getpid()), "folder": str(folder)}))
    try:
        yield
    finally:
        clear(folder)
        record.unlink()


def clear(folder: Path) -> None:
    """End all nodes in this folder, whatever is left of their records: no process, namespace or interface stays."""
    until = time.monotonic() + 10
    while pids := _holders(folder):
        if time.monotonic() > until:
            raise RuntimeError(f"processes {pids} do not end")
        processes.send(pids, signal.SIGKILL)
        time.sleep(0.02)
    with locked(LOCK):
        for bridge in networks.bridges(folder):
            networks.remove_bridge(bridge)
    shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    for record in _REGISTRY.glob("*.json"):
        try:
            owner = json.loads(record.read_text())
        except (OSError, ValueError):  # another process writes or removes it in this moment
            continue
        if _started(owner["pid"]) != owner["started"]:
            clear(Path(owner["folder"]))
            record.unlink(missing_ok=True)


def _holders(folder: Path) -> list[int]:
    """First processes of nodes in this folder, and what waits for them."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ends in this moment
            continue
        node = any(word.endswith(("/node/init.py", "/node/node-init.sh")) for word in words)
        if node and any(word.startswith(f"{folder}/") for word in words):
            found.append(int(command.parent.name))
    return found


def _started(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
