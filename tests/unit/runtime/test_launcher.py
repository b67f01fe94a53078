"""A job as one Python file: run as Dataproc would."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dask_provider.hooks.dataproc.job_requests import main_file
from dask_provider.jobs import ARCHIVE, Bundle
from dask_provider.owner import Owner

#: stands for the runtime: says what it finds, and waits for a signal when it is told to
RUNTIME = """
import json, os, pathlib, signal, sys, time
*command, job, folder = sys.argv[1:]
fields = json.loads(pathlib.Path(job).read_text())
print(*command, fields["text"], (pathlib.Path(job).parent / "work/data.txt").read_text(), flush=True)
print(pathlib.Path(job).parent, flush=True)
if fields["wait"]:
    signal.signal(signal.SIGTERM, lambda number, frame: (print("told to end", flush=True), os._exit(7)))
    time.sleep(60)
sys.exit(3)
"""


def start(folder: Path, *, wait: bool, **fields: object) -> subprocess.Popen[str]:
    files = {ARCHIVE: RUNTIME.encode(), "work/data.txt": b"of the user"}
    bundle = Bundle(Owner("i", "d", "r", "t"), "0", files, {}, "gs://x/")
    path = folder / "job.py"
    path.write_bytes(main_file(bundle, json.dumps({"text": "”'\\\"", "wait": wait, **fields}).encode()))
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True)


def test_it_runs_the_job_with_its_files_and_leaves_nothing(tmp_path: Path) -> None:
    with start(tmp_path, wait=False) as process:
        output, _ = process.communicate(timeout=30)
    said, folder = output.splitlines()
    assert said == "job ”'\\\" of the user"
    assert process.returncode == 3
    assert not Path(folder).exists()


def test_where_dask_comes_with_the_job_the_runtime_starts_it(tmp_path: Path) -> None:
    with start(tmp_path, wait=False, yarn={"workers": [2, 2]}) as process:
        assert process.communicate(timeout=30)[0].startswith("yarn job ”")


def test_it_passes_on_the_signal_that_cancels(tmp_path: Path) -> None:
    with start(tmp_path, wait=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        folder = process.stdout.readline().strip()
        time.sleep(0.3)  # until the stand-in has its handler
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "told to end\n"
        assert process.wait(10) == 7
    assert not Path(folder).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_no_job_outlives_it(tmp_path: Path) -> None:
    with start(tmp_path, wait=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        time.sleep(0.3)
        process.kill()
        assert process.stdout.readline() == "told to end\n"
