"""The user's program: its command line, its process, and what its end means."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from .processes import bound_to_me
from .report import PREFIX

#: lines of output that are kept to explain a failure
TAIL = 40
#: characters that are kept of each: the outcome travels through Airflow's database
LONGEST = 1000
_ERROR_LINE = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Worker|Interrupt|Exit|Timeout|Warning)?)(?:: .*)?")


def command_line(program: dict[str, Any], folder: Path) -> list[str]:
    """The command of a job: ``script`` and ``arguments``, ``module`` and ``arguments``, or a pickled ``call``."""
    if program["kind"] == "script":
        return [sys.executable, str(folder / program["path"]), *program["arguments"]]
    if program["kind"] == "module":
        return [sys.executable, "-m", program["module"], *program["arguments"]]
    if program["kind"] == "call":
        runtime = [sys.argv[0]] if sys.argv[0].endswith(".pyz") else ["-m", __package__ or ""]
        return [sys.executable, *runtime, "call", str(folder / program["path"]), str(folder / "result.json")]
    raise ValueError(f"a job of the kind {program['kind']!r}; allowed: script, module, call")


class Program:
    """A running program in its own process group, its output passed through line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.tail: collections.deque[str] = collections.deque(maxlen=TAIL)
        self._output = asyncio.ensure_future(self._pass_through())
        self._oom_before = _oom_kills()
        self.pid = process.pid

    @classmethod
    async def start(cls, command: list[str], env: dict[str, str], folder: Path) -> Program:
        """Start it; call from the main thread, see :func:`bound_to_me`."""
        process = await asyncio.create_subprocess_exec(
            *bound_to_me(command),
            cwd=folder,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        return cls(process)

    async def _pass_through(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while block := await self._process.stdout.read(1 << 16):
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > 1 << 16:  # no line end in sight: a progress bar, or binary
                lines, rest = [*lines, rest], b""
            self._write(lines)
        if rest:
            self._write([rest])

    def _write(self, lines: list[bytes]) -> None:
        for line in lines:
            text = line.decode(errors="replace").rstrip("\r")
            if text.startswith(PREFIX):  # only the runtime speaks for the runtime
                text = " " + text
            self.tail.append(text[:LONGEST])
            sys.stdout.write(text + "\n")
        sys.stdout.flush()

    async def wait(self) -> int:
        """Exit code; negative: the number of the signal that ended it. Then also its left-over children are ended."""
        code = await self._process.wait()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._output), timeout=2)
        self._signal(signal.SIGKILL)  # children that kept the pipe open
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._output, timeout=2)
        return code

    async def end(self, grace: float) -> None:
        """Ask it to end, then make it."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), timeout=grace)
        except asyncio.TimeoutError:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def verdict(self, code: int) -> dict[str, Any]:
        """What the exit code means: fields of an outcome."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        peak = usage if sys.platform == "darwin" else usage * 1024
        out_of_memory = code == -signal.SIGKILL and _oom_kills() > self._oom_before
        return explain(code, list(self.tail), out_of_memory=out_of_memory) | {"peak_memory": peak}


def explain(code: int, tail: list[str], *, out_of_memory: bool = False) -> dict[str, Any]:
    """State, exit code, signal and reason of a program that ended with ``code`` (negative: a signal)."""
    if code == 0:
        return {"state": "succeeded", "exit_code": 0}
    if code < 0:
        name = next((known.name for known in signal.Signals if known == -code), str(-code))  # real-time ones have none
        why = "out of memory: the kernel ended it (SIGKILL)" if out_of_memory else f"ended by signal {name}"
        return {"state": "failed", "exit_code": None, "signal": name, "reason": why}
    error = _last_error(tail)
    return {"state": "failed", "exit_code": code, "reason": f"exit code {code}" + (f": {error}" if error else "")}


def _last_error(tail: list[str]) -> str | None:
    """The error that ended a traceback, or the last line that was written."""
    in_traceback = False
    found = None
    for line in tail:
        if line.startswith("Traceback (most recent call last)"):
            in_traceback = True
        elif in_traceback and line[:1] not in ("", " ", "\t") and _ERROR_LINE.match(line):
            found, in_traceback = line, False
    last = next((line for line in reversed(tail) if line.strip()), None)
    return (found or last or "")[:500] or None


def _oom_kills() -> int:
    """How many processes the kernel ended for memory since boot; 0 where it does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
