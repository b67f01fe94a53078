"""Processes are known by number and start time; records are whole or absent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dask_provider.runtime.processes import alive, bound_to_me, identity, send_signal, wait_dead
from dask_provider.runtime.records import read_record, write_record


def test_a_number_that_was_used_again_is_nobody_we_know() -> None:
    mine = identity(os.getpid())
    assert alive(mine)
    stranger = {**mine, "started": "1"}
    assert not alive(stranger)
    assert not send_signal(stranger, signal.SIGKILL)
    assert not alive(None)
    assert not alive({"pid": 2**22 + 1, "started": None})
    assert wait_dead([stranger], 0)
    assert not wait_dead([mine], 0)


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    record = identity(process.pid)
    assert alive(record)
    assert send_signal(record, signal.SIGKILL)
    assert wait_dead([record], 5), "though nobody has waited for it yet"
    assert not send_signal(record, signal.SIGKILL)
    process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_bound_process_ends_with_its_parent() -> None:
    code = (
        "import subprocess, sys, time\n"
        "from dask_provider.runtime.processes import bound_to_me\n"
        "child = subprocess.Popen(bound_to_me([sys.executable, '-c', 'import time; time.sleep(60)']))\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = identity(int(parent.stdout.readline()))
    assert alive(child)
    parent.kill()
    parent.communicate()
    assert wait_dead([child], 5)


def test_a_bound_process_whose_parent_is_already_gone_does_not_start() -> None:
    command = bound_to_me(["true"])
    command[5] = "1"  # as if it had been started by another process
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, "the parent is already gone")


def test_records(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert read_record(path) is None
    assert read_record(path / "below a file") is None
    write_record(path, {"a": 1})
    write_record(path, {"a": 2})
    assert read_record(path) == {"a": 2}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"
    path.write_text("[1]")
    with pytest.raises(ValueError, match="holds no JSON object"):
        read_record(path)
