"""One job for each of 200 files on a real Kubernetes: `for_each_file` beside a mapped KubernetesJobOperator.

Both run the same program in the same image, ten at a time: it sleeps for a second and copies its input. In turn, in one
go: each side waiting in the worker (`running`) and with `deferrable=True`. `ours-deferred` is ours with every wait in
the triggerer: as it comes, a job of less than `[dask] sync_seconds` never defers.

`per file` is the wall time of the DAG run divided by the number of files, so listing, scheduling and summing up belong
to it; `task` is the median from the start of a file's task to its end. Each run has a triggerer of its own, whose
memory is looked at once a second. A run counts as failed if its state is not
success or an output is missing or wrong; tasks that failed are counted as well.
"""

from __future__ import annotations

import json
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import meters, report
from benchmarks.on_kubernetes.runs import attempt, counts, dag_run, told
from benchmarks.on_kubernetes.stage import ALL, PACKAGES, Stage, stage
from tests.servers.kubernetes import DASK_IMAGE

NAME = "kubernetes_files"
HERE = Path(__file__).resolve().parent / "on_kubernetes" / "files"
PARTS = ("ours-running", "peers-running", "ours-deferrable", "peers-deferrable", "ours-deferred")
PARALLELISM = 10
#: the program's own time
SECONDS = 1.0
#: seconds that a run may take for each file, and in any case
EACH, ENOUGH = 30.0, 300.0
MIB = 2**20


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=200, help="number of files of kubernetes_files (200)")
    parser.add_argument("--files-repeats", type=int, default=1, help="repetitions of kubernetes_files (1)")
    parser.add_argument("--files-parts", default=",".join(PARTS), help="what kubernetes_files measures (all)")


def main(options: Namespace) -> None:
    facts = report.machine()
    rounds: list[dict[str, Any]] = []
    try:
        measure(options, rounds)
    finally:
        if any(rounds):  # what was measured is not lost to Ctrl-C
            _report(options, facts, rounds)


def measure(options: Namespace, rounds: list[dict[str, Any]]) -> None:
    """A warm-up with two files, which is not counted, then the counted rounds; the last one may be incomplete."""
    from dask_provider.hooks.kubernetes.rights import PLAIN, role_rules

    parts = options.files_parts.split(",")
    accounts = {name: role_rules(PLAIN) if name.startswith("ours") else ALL for name in parts}
    with stage(HERE / "dags", accounts, env=partial(_environment, options)) as on:
        for name in parts:
            warm_up = attempt(partial(_part, on, name, f"{name}-warm-up", 2))
            print(f"  warm-up: {told(name, warm_up)}", flush=True)
        for number in range(options.files_repeats):
            rounds.append({})
            for name in parts:
                rounds[-1][name] = attempt(partial(_part, on, name, f"{name}-{number}", options.files))
                print(f"  round {number + 1}: {told(name, rounds[-1][name])}", flush=True)


def _environment(options: Namespace, namespace: str, shared: str) -> dict[str, str]:
    fields = {
        "namespace": namespace,
        "image": DASK_IMAGE,
        "image_pull_policy": "IfNotPresent",
        "job_resources": {"requests": {"cpu": "20m", "memory": "30Mi"}, "limits": {"memory": "100Mi"}},
    }
    mounts = {
        "volumes": [{"name": "shared", "hostPath": {"path": shared, "type": "Directory"}}],
        "volume_mounts": [{"name": "shared", "mountPath": shared}],
    }
    return {
        "BENCHMARK_FIELDS": json.dumps({**fields, **mounts}),
        "BENCHMARK_PROGRAM": json.dumps(["sh", "-c", f'sleep {SECONDS:g}; cp "$0" "$1"']),
        "BENCHMARK_PARALLELISM": str(PARALLELISM),
        "BENCHMARK_POLL": str(options.peers_poll),
    }


def _part(on: Stage, name: str, folder: str, files: int) -> dict[str, Any]:
    lake = on.shared / folder
    (lake / "in").mkdir(parents=True)
    for number in range(files):
        (lake / "in" / f"{number}.txt").write_text(f"file {number}")
    # A new triggerer: the old one's memory is also that of the other side.
    on.airflow.kill("triggerer", tree=True)
    on.airflow.heal()
    on.audit.new()
    try:
        with _memory_of(on) as memory:
            found = dag_run(on, name, {"lake": str(lake)}, ENOUGH + EACH * files)
        made = sum(_content(lake / "out" / path.name) == path.read_text() for path in (lake / "in").iterdir())
        lasted = [end - begin for begin, end in _runs(found["tasks"])]
        figures = {
            "files": files,
            "made": made,
            "seconds_per_file": round(found["seconds"] / files, 3),
            "task_seconds": report.summary(lasted) if lasted else None,
            "failed_tasks": found["states"].get("failed", 0),
            "triggerer_mib": {"before": memory[0], "most": max(memory)},
            **counts(on, name),
        }
        if found["state"] == "success" and made < files:
            figures["why"] = f"{files - made} outputs are missing or wrong"
        return {**{key: value for key, value in found.items() if key not in ("tasks", "slots")}, **figures}
    finally:
        on.sweep("jobs,pods")


def _runs(tasks: dict[str, Any]) -> list[tuple[float, float]]:
    times = [moments for label, moments in tasks.items() if label.partition("[")[0] in ("run", "files.run")]
    return [(begin, end) for begin, end in times if begin is not None and end is not None]


def _content(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


@contextmanager
def _memory_of(on: Stage) -> Iterator[list[float]]:
    """Resident MiB of the triggerer's processes, once a second: the first before anything runs."""
    pid = on.airflow.pid("triggerer")
    pids = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    seen = [_resident(pids)]
    over = threading.Event()

    def look() -> None:
        while not over.wait(1):
            with suppress(psutil.Error):
                seen.append(_resident(pids))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    began = time.monotonic()
    try:
        yield seen
    finally:
        over.set()
        thread.join(max(1.0, began + 1 - time.monotonic()))


def _resident(pids: list[int]) -> float:
    return round(sum(meters.rss(pid) for pid in pids) / MIB, 1)


def _report(options: Namespace, facts: dict[str, Any], rounds: list[dict[str, Any]]) -> None:
    rows, summaries = [], {}
    for name in rounds[0]:
        all_of = [of[name] for of in rounds if name in of]
        good = [of for of in all_of if of["ok"]]
        failed = f"{len(all_of) - len(good)} of {len(all_of)}"
        summary: dict[str, Any] = {"runs": len(all_of), "failures": len(all_of) - len(good)}
        if good:
            keys = ("seconds", "seconds_per_file", "requests", "slot_seconds", "cpu_seconds", "retries", "failed_tasks")
            known = [key for key in keys if all(of[key] is not None for of in good)]
            summary |= {key: report.summary([of[key] for of in good]) for key in known}
            summary["requests_per_file"] = report.summary([of["requests"] / of["files"] for of in good])
            summary["task_seconds"] = report.summary([of["task_seconds"]["median"] for of in good])
            summary["triggerer_mib"] = report.summary([of["triggerer_mib"]["most"] for of in good])
            grew = [of["triggerer_mib"]["most"] - of["triggerer_mib"]["before"] for of in good]
            summary["triggerer_grew_mib"] = report.summary(grew)
        summaries[name] = summary
        columns = {
            "seconds": ".0f",
            "seconds_per_file": ".2f",
            "task_seconds": ".1f",
            "requests_per_file": ".1f",
            "slot_seconds": ".0f",
            "cpu_seconds": ".0f",
            "triggerer_mib": ".0f",
            "triggerer_grew_mib": "+.0f",
        }
        rows.append([name, *(_cell(summary, key, form) for key, form in columns.items()), failed])
    head = ["", "seconds", "per file", "task", "requests each", "slot s", "CPU s", "triggerer MiB", "grew", "failed"]
    report.print_table(f"{options.files} files, {PARALLELISM} at a time; median of {len(rounds)} runs", head, rows)
    ratios = {mode: _ratio(summaries, mode) for mode in ("running", "deferrable")}
    for mode, found in ratios.items():
        if found:
            print(f"  ours to the peers', {mode}: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    result = {
        "files": options.files,
        "parallelism": PARALLELISM,
        "program_seconds": SECONDS,
        "peers_poll_seconds": options.peers_poll,
        "repeats_wanted": options.files_repeats,
        "ratios": ratios,
        "summary": summaries,
        "rounds": rounds,
    }
    print(f"  {report.save(NAME, facts, result, PACKAGES)}", flush=True)


def _cell(summary: dict[str, Any], key: str, form: str) -> str:
    return f"{summary[key]['median']:{form}}" if key in summary else ""


def _ratio(summaries: dict[str, Any], mode: str) -> dict[str, float]:
    ours, peers = (summaries.get(f"{side}-{mode}", {}) for side in ("ours", "peers"))
    keys = ("seconds_per_file", "requests", "slot_seconds", "cpu_seconds", "triggerer_mib")
    both = [key for key in keys if key in ours and key in peers and peers[key]["median"]]
    return {key: round(ours[key]["median"] / peers[key]["median"], 3) for key in both}
