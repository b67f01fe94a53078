"""What the end of a program means, in words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from dask_provider.runtime.program import command_line, explain

KILLED_WORKER = """\
working
Traceback (most recent call last):
  File "work.py", line 4, in <module>
    client.submit(f).result()
  File "distributed/client.py", line 402, in result
    raise exc
distributed.scheduler.KilledWorker: Attempted to run task 'f-1' on 4 different workers, but all those workers died
2024-01-01 00:00:00,000 - distributed.client - WARNING - closing
"""
CHAINED = """\
Traceback (most recent call last):
  File "work.py", line 2, in <module>
    raise KeyError("first")
KeyError: 'first'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "work.py", line 5, in <module>
MemoryError
"""


def test_success_is_exit_code_zero_whatever_was_printed() -> None:
    assert explain(0, KILLED_WORKER.splitlines()) == {"state": "succeeded", "exit_code": 0}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "exit code 3"),
        ("loading\nno such day\n\n", "exit code 3: no such day"),
        (
            KILLED_WORKER,
            "exit code 3: distributed.scheduler.KilledWorker: Attempted to run task 'f-1' on 4 different workers, "
            "but all those workers died",
        ),
        (CHAINED, "exit code 3: MemoryError"),
        ("x" * 5000, "exit code 3: " + "x" * 500),
    ],
)
def test_the_error_that_ended_it(text: str, reason: str) -> None:
    assert explain(3, text.splitlines()) == {"state": "failed", "exit_code": 3, "reason": reason}


def test_signals_and_the_kernel_out_of_memory() -> None:
    told = explain(-9, ["last"])
    assert told == {"state": "failed", "exit_code": None, "signal": "SIGKILL", "reason": "ended by signal SIGKILL"}
    assert explain(-9, [], out_of_memory=True)["reason"].startswith("out of memory")
    assert explain(-11, [])["signal"] == "SIGSEGV"
    assert explain(-40, [])["signal"] == "40", "real-time signals have no name"


def test_command_lines() -> None:
    folder = Path("/job")
    script = {"kind": "script", "path": "work.py", "arguments": ["--day", "a b"]}
    assert command_line(script, folder) == [sys.executable, "/job/work.py", "--day", "a b"]
    module = {"kind": "module", "module": "pkg.work", "arguments": []}
    assert command_line(module, folder) == [sys.executable, "-m", "pkg.work"]
    call = command_line({"kind": "call", "path": "call.pkl"}, folder)
    assert call[-3:] == ["call", "/job/call.pkl", "/job/result.json"]
    with pytest.raises(ValueError, match="'notebook'; allowed: script, module, call"):
        command_line({"kind": "notebook"}, folder)
