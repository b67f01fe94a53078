"""Wall time of create -> job -> store -> delete on `local`, above the same steps by hand plus Airflow's own floor.

In turn, in one go: a DAG of four tasks that do nothing (`floor`), the four steps without Airflow (`by hand`,
`chain/by_hand.py`), and the chain three times: waiting in the worker (`running`), `deferrable` as it comes (a short
step waits by itself for `[dask] sync_seconds` and never defers), and `deferred`, where every wait does go through the
triggerer. The Airflow is real: scheduler, triggerer, dag processor, API server, LocalExecutor, SQLite.

A step lasts from the end of the step before it (the first: the start of the DAG run) to its own end, so the way of a
task through the scheduler belongs to it. `end` is what the scheduler needs to see that the run is over. What is
compared is the difference within each repetition; the median is over these differences. On a machine that does other
things as well, each part begins when it is calm, and the CPU seconds that others took meanwhile are on record.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import meters, report
from benchmarks.chain import by_hand
from dev.airflow_server import AirflowServer
from dev.airflow_server.rest import Airflow3Client
from dev.airflow_server.server import running_keeper

NAME = "chain_overhead"
HERE = Path(__file__).resolve().parent / "chain"
WORKERS = 2
MODES = ("running", "deferrable", "deferred")
STEPS = (*by_hand.STEPS, "end")
GOAL = 3.0


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--chain-repeats", type=int, default=7, help="repetitions of chain_overhead (7)")


def main(options: Namespace) -> None:
    facts = report.machine()
    rounds = measure(options.chain_repeats)
    overheads = {mode: _overheads(rounds, mode) for mode in MODES}
    result = {
        "workers": WORKERS,
        "repeats": len(rounds),
        "goal_seconds": GOAL,
        "seconds": {
            name: {step: report.summary([of[name]["steps"][step] for of in rounds]) for step in (*STEPS, "all")}
            for name in rounds[0]
        },
        "overhead_seconds": {
            mode: {step: report.summary(values) for step, values in of.items()} for mode, of in overheads.items()
        },
        "cpu_seconds": {name: report.summary([of[name]["cpu"] for of in rounds]) for name in rounds[0]},
        "rounds": rounds,
    }
    _print(rounds, overheads)
    report.save(NAME, facts, result)


def measure(repeats: int, env: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """One warm-up round, which is not counted, and then the counted ones."""
    folder = Path(tempfile.mkdtemp(prefix="chain-overhead-"))
    server = AirflowServer(
        folder / "airflow",
        Path(sys.executable),
        HERE / "dags",
        config={"AIRFLOW__DASK__INSTANCE": "benchmark", "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False"},
        env={"BENCHMARK_WORKERS": str(WORKERS), **(env or {})},
    )
    try:
        with server:
            rounds = []
            for number in range(repeats + 1):
                rounds.append(_round(server, folder / f"round-{number}"))
                said = ", ".join(f"{name} {of['steps']['all']:.1f}" for name, of in rounds[-1].items())
                print(f"  {'warm-up' if number == 0 else f'round {number}'}: {said} s", flush=True)
            return rounds[1:]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _round(server: AirflowServer, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"floor": _dag_run(server, "floor", folder), "by hand": _by_hand(folder / "hand")}
    return found | {mode: _dag_run(server, mode, folder) for mode in MODES}


def _by_hand(folder: Path) -> dict[str, Any]:
    meters.wait_until_calm()
    busy, own = meters.machine_cpu(), meters.reaped_cpu()
    steps = by_hand.run(folder, HERE / "job.py", WORKERS, meters.clean_environment())
    return _entry({**steps, "end": 0.0}, meters.reaped_cpu() - own, meters.machine_cpu() - busy)


def _dag_run(server: AirflowServer, dag_id: str, results: Path) -> dict[str, Any]:
    client, keeper = server.client, running_keeper(server.home)
    assert isinstance(client, Airflow3Client)
    assert keeper is not None
    client.wait_for_dag(dag_id)
    meters.wait_until_calm()
    busy, own = meters.machine_cpu(), meters.tree_cpu(keeper)
    run_id = client.trigger(dag_id, {} if dag_id == "floor" else {"results": str(results)})
    state = client.wait_for_run(dag_id, run_id)
    cpu, busy = meters.tree_cpu(keeper) - own, meters.machine_cpu() - busy
    if state != "success":
        raise RuntimeError(f"{run_id} of {dag_id} is {state}")
    run = client.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
    begin, end = (datetime.fromisoformat(run[name]).timestamp() for name in ("start_date", "end_date"))
    instances = client.task_instances(dag_id, run_id)
    ends = {instance.task_id: instance.end_date.timestamp() for instance in instances if instance.end_date}
    times = [begin, *(ends[step] for step in by_hand.STEPS), end]
    lasted = (after - before for before, after in itertools.pairwise(times))
    return _entry(dict(zip(STEPS, lasted, strict=True)), cpu, busy)


def _entry(steps: dict[str, float], cpu: float, busy: float) -> dict[str, Any]:
    rounded = {step: round(seconds, 3) for step, seconds in {**steps, "all": sum(steps.values())}.items()}
    return {"steps": rounded, "cpu": round(cpu, 2), "cpu_of_others": round(max(0.0, busy - cpu), 2)}


def _overheads(rounds: list[dict[str, Any]], mode: str) -> dict[str, list[float]]:
    """What is above the floor and the steps by hand, for each repetition."""
    return {
        step: [of[mode]["steps"][step] - of["floor"]["steps"][step] - of["by hand"]["steps"][step] for of in rounds]
        for step in (*STEPS, "all")
    }


def _print(rounds: list[dict[str, Any]], overheads: dict[str, dict[str, list[float]]]) -> None:
    steps = (*STEPS, "all")
    rows = []
    for name in rounds[0]:
        seconds = [f"{report.median(of[name]['steps'][step] for of in rounds):.2f}" for step in steps]
        cpu = f"{report.median(of[name]['cpu'] for of in rounds):.2f}"
        rows.append([name, *seconds, cpu])
    report.print_table(f"seconds, median of {len(rounds)} rounds", ["", *steps, "CPU"], rows)
    cpu_of = {name: report.median(of[name]["cpu"] for of in rounds) for name in rounds[0]}
    rows = []
    for mode, of in overheads.items():
        extra = cpu_of[mode] - cpu_of["floor"] - cpu_of["by hand"]
        rows.append([mode, *(f"{report.median(of[step]):+.2f}" for step in steps), f"{extra:+.2f}"])
    title = f"above by hand plus floor (goal: at most {GOAL:.0f} s in all, running and deferrable)"
    report.print_table(title, ["", *steps, "CPU"], rows)
