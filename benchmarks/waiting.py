"""Memory and CPU of one triggerer that holds 0, 1, 100 and 1,000 deferred jobs.

Real are: the Airflow with its triggerer (as it comes: one process that talks to the database, one that runs the
triggers), the rows in its database, the triggers, the log files they write to, and up to four jobs with clusters of
their own that went the whole way through scheduler and worker. The other jobs are stand-ins: folders like those of
jobs, with one process that all of them name as theirs; their tasks were written into the database as deferred
(`deferred/rows.py`). A trigger cannot tell the difference.

Twice for each number: stand-ins that write nothing (`quiet`: each is looked at every 10 s), and stand-ins that report
progress every second, as a working cluster does (`lively`: looked at every second). The real ones are always lively.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from dask_provider.runtime.processes import start_time

from benchmarks import meters, report
from dev.airflow_server import FAST_DETECTION, AirflowServer
from dev.airflow_server.rest import Airflow3Client

NAME = "waiting"
HERE = Path(__file__).resolve().parent / "deferred"
COUNTS = (0, 1, 100, 1000)
REAL = 4
#: until waits have found their pace after a change: a quiet one takes 40 s to slow down to a look every 10 s
SETTLE = 45.0
MIB = 2**20


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--waiting-seconds", type=float, default=60, help="length of each window of waiting (60)")


def main(options: Namespace) -> None:
    facts = report.machine()
    windows = measure(options.waiting_seconds)
    _print(windows, options.waiting_seconds)
    report.save(NAME, facts, {"window_seconds": options.waiting_seconds, "windows": windows, "costs": costs(windows)})


class Bench:
    """One Airflow and the jobs that its triggerer holds."""

    def __init__(self, folder: Path, server: AirflowServer, client: Airflow3Client) -> None:
        self.server, self.client = server, client
        self.jobs = folder / "stand-ins"
        self.jobs.mkdir()
        self.runs: list[str] = []
        self.stand_ins = 0
        environment = {**meters.clean_environment(), "AIRFLOW_HOME": str(server.home)}
        command = [sys.executable, str(HERE / "stand_in.py"), str(self.jobs)]
        self.shared = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, text=True)

    def hold(self, count: int) -> None:
        """Add deferred jobs until there are `count`."""
        while len(self.runs) < min(REAL, count):
            run = self.client.trigger("waiting")
            _until(lambda run=run: self._follows_job(run), 120, f"{run} does not follow its job")  # type: ignore[misc]
            self.runs.append(run)
        if count > len(self.runs) + self.stand_ins:
            self._add_stand_ins(count - len(self.runs))

    def lively(self, on: bool) -> None:
        assert self.shared.stdin is not None
        self.shared.stdin.write(f"{self.stand_ins if on else 0}\n")
        self.shared.stdin.flush()

    def window(self, seconds: float) -> dict[str, Any]:
        time.sleep(SETTLE)
        pids = [self.server.pid("triggerer"), *_children(self.server.pid("triggerer"))]
        before, begin, blocked = [_cpu(pid) for pid in pids], time.monotonic(), self._blocked()
        time.sleep(seconds)
        lasted = time.monotonic() - begin
        cpu = [(_cpu(pid) - was) / lasted for pid, was in zip(pids, before, strict=True)]
        return {
            "cpu_of_a_core": [round(value, 4) for value in cpu],
            "rss_mib": [round(meters.rss(pid) / MIB, 1) for pid in pids],
            "event_loop_blocked": self._blocked() - blocked,
            "seconds_behind": self._behind(),
        }

    def _follows_job(self, run: str) -> bool:
        instance = self.client.call("GET", f"/dags/waiting/dagRuns/{run}/taskInstances/job")
        trigger = instance["trigger"] or {}
        return trigger.get("triggerer_id") is not None and trigger["classpath"].endswith("DaskJobTrigger")

    def _add_stand_ins(self, wanted: int) -> None:
        real = next((self.server.home / "dask" / "jobs").glob("*/*/record.json"))
        record, process = real.read_text(), {"pid": self.shared.pid, "started": start_time(self.shared.pid)}
        for index in range(self.stand_ins + 1, wanted + 1):
            folder = self.jobs / str(index)
            folder.mkdir()
            (folder / "record.json").write_text(record)
            (folder / "attempt.json").write_text('{"attempt": 1}')
            (folder / "process.json").write_text(json.dumps(process))
            (folder / "output.log").touch()
        arguments = [self.runs[0], str(self.stand_ins + 1), str(wanted), str(self.jobs)]
        meters.output([sys.executable, str(HERE / "rows.py"), *arguments], self.server.environment)
        self.stand_ins = wanted
        _until(lambda: self._followed() >= wanted, 300, f"the triggerer does not follow {wanted} stand-ins")

    def _behind(self) -> float:
        """How old the news is that the slowest of the stand-ins' triggers has not shown yet: below 2 it keeps up."""
        ages = [0.0]
        for index in range(1, self.stand_ins + 1):
            folder = self.jobs / str(index)
            shown = json.loads(_read(folder / "shown.json") or '{"position": 0}')["position"]
            ages.append(float(_read(folder / "output.log")[shown:].count("\n")))
        return max(ages)

    def _followed(self) -> int:
        logs = self.server.home / "logs" / "dag_id=waiting"
        return sum(1 for _ in logs.glob("*/task_id=job/map_index=*/*.trigger.*.log"))

    def _blocked(self) -> int:
        return (self.server.home / "logs" / "triggerer.log").read_text(errors="replace").count("thread was blocked")


def measure(seconds: float) -> list[dict[str, Any]]:
    folder = Path(tempfile.mkdtemp(prefix="waiting-"))
    config = {**FAST_DETECTION, "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False"}
    config["AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD"] = "120"
    server = AirflowServer(folder / "airflow", Path(sys.executable), HERE / "dags", config=config)
    windows = []
    try:
        with server:
            client = server.client
            assert isinstance(client, Airflow3Client)
            bench = Bench(folder, server, client)
            try:
                for count in COUNTS:
                    bench.hold(count)
                    for mode in ("quiet", "lively") if count > 1 else ("quiet",):
                        bench.lively(mode == "lively")
                        windows.append({"triggers": count, "mode": mode, **bench.window(seconds)})
                        print(f"  {windows[-1]}", flush=True)
                    bench.lively(False)
            finally:
                bench.shared.kill()
                bench.shared.wait()
        return windows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def costs(windows: list[dict[str, Any]]) -> dict[str, Any]:
    """What each trigger after the first adds (the first loads the modules for all), and what n need, against 1."""
    one = next(window for window in windows if window["triggers"] == 1)
    found = {}
    for window in windows:
        count = window["triggers"]
        if count > 1:
            cpu, memory = (sum(window[key]) - sum(one[key]) for key in ("cpu_of_a_core", "rss_mib"))
            found[f"{count} {window['mode']}"] = {
                "cpu_ms_per_second_and_trigger": round(1000 * cpu / (count - 1), 3),
                "memory_kib_per_trigger": round(1024 * memory / (count - 1), 1),
                "cpu_ratio_to_one": round(sum(window["cpu_of_a_core"]) / sum(one["cpu_of_a_core"]), 1),
                "memory_ratio_to_one": round(sum(window["rss_mib"]) / sum(one["rss_mib"]), 2),
            }
    return found


def _print(windows: list[dict[str, Any]], seconds: float) -> None:
    found = costs(windows)
    rows = []
    for window in windows:
        name = f"{window['triggers']:,} {window['mode'] if window['triggers'] > 1 else ''}".strip()
        measured = [f"{sum(window['cpu_of_a_core']):.1%}", f"{sum(window['rss_mib']):.0f}"]
        each = found.get(f"{window['triggers']} {window['mode']}", {})
        behind = f"{window['seconds_behind']:.0f} s"
        rows.append([name, *measured, *(str(value) for value in each.values() or [""] * 4), behind])
    head = ["triggers", "CPU of a core", "RSS MiB", "CPU ms/s each", "KiB each", "CPU n:1", "RSS n:1", "behind"]
    report.print_table(f"one triggerer (both of its processes) over {seconds:.0f} s", head, rows)


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _until(true: Callable[[], bool], seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s: {complaint}")
        time.sleep(0.5)
