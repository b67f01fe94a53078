"""Start a server process on the loopback interface, and stop it."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

#: Below those that the system gives to whoever asks for any: a server that starts again must find its own still free.
PORTS = range(20_000, 30_000)


def free_port() -> int:
    """A port of the loopback interface that nobody has now."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def start(
    command: list[str], address: str, log: Path, env: Mapping[str, str] | None = None, seconds: float = 20
) -> subprocess.Popen[bytes]:
    """Start a server and wait until it listens.

    :raises RuntimeError: with the end of its log, when it ends or does not listen within these seconds.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    host, _, port = address.rpartition(":")
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.05)
    stop(process)
    raise RuntimeError(f"{command[0]} does not listen on {address}: {log.read_text(errors='replace')[-500:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End this very process."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
