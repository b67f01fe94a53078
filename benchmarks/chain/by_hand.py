"""The four steps of the chain as one would do them by hand, without Airflow and without this provider.

The same commands with the same options as a cluster of the place `local` has, and nobody who watches them.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

STEPS = ("create", "job", "store", "delete")
#: so long a step may take
ENOUGH = 120.0


def run(folder: Path, script: Path, workers: int, env: Mapping[str, str]) -> dict[str, float]:
    """Seconds of each step."""
    folder.mkdir(parents=True)
    times = [time.monotonic()]
    processes = _start(folder, workers, env)
    try:
        address = _wait_for_workers(folder / "scheduler.json", workers)
        times.append(time.monotonic())
        staging = folder / "staging"
        of_job = {"DASK_SCHEDULER_ADDRESS": address, "DASK_JOB_RESULTS": f"file://{staging}/"}
        subprocess.run([sys.executable, str(script)], env={**env, **of_job}, cwd=folder, check=True, timeout=ENOUGH)
        times.append(time.monotonic())
        shutil.copytree(staging, folder / "stored")
        times.append(time.monotonic())
    finally:
        _stop(processes)
    times.append(time.monotonic())
    return dict(zip(STEPS, (end - begin for begin, end in itertools.pairwise(times)), strict=True))


def _start(folder: Path, workers: int, env: Mapping[str, str]) -> list[subprocess.Popen[bytes]]:
    place = ["--scheduler-file", str(folder / "scheduler.json"), "--host", "127.0.0.1"]
    commands = [["scheduler", *place, "--port", "0", "--dashboard-address", "127.0.0.1:0"]]
    for number in range(workers):
        own = ["--name", f"worker-{number}", "--local-directory", str(folder / "scratch")]
        commands.append(["worker", *place, *own, "--nthreads", "1", "--memory-limit", "auto", "--no-dashboard"])
    processes = []
    for number, command in enumerate(commands):
        with open(folder / f"{number}.log", "wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *command], env=dict(env), cwd=folder, stdout=log, stderr=log
                )
            )
    return processes


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """The workers first: one that meets the end of its scheduler while it ends itself may hang for 8 s."""
    scheduler, *workers = processes
    for group in (workers, [scheduler]):
        for process in group:
            process.terminate()
        for process in group:
            process.wait(ENOUGH)


def _wait_for_workers(scheduler_file: Path, workers: int) -> str:
    deadline = time.monotonic() + ENOUGH
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        time.sleep(0.05)
        try:
            record = json.loads(scheduler_file.read_text())
            port = record["services"]["dashboard"]
            with opener.open(f"http://127.0.0.1:{port}/json/counts.json", timeout=3) as answer:
                if json.load(answer)["workers"] >= workers:
                    return str(record["address"])
        except (OSError, ValueError):
            continue
    raise TimeoutError(f"{workers} workers did not join within {ENOUGH} s")
