"""create -> job -> store -> delete on an emulated Dataproc: ours beside the three operators of the google provider.

In turn, in one go: a DAG of four tasks that do nothing (`floor`), and the two chains, each waiting in the worker
(`running`) and with `deferrable=True`. Machines and jobs are nothing but delays, the same for both sides: `short` is
10 s until a cluster is there, 5 s of a job, 5 s until the cluster is gone; `long` is 90, 60 and 60 s.

What counts is the wall time of the DAG run above these delays and the floor, the difference within each round. A run
counts as failed if its state is not success, if the result is missing or wrong, or if its cluster is left a minute
later. The peers' chain stores nothing: its job writes to where the result belongs.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from typing import Any

from benchmarks import report
from benchmarks.on_airflow.runs import attempt, dag_run, told
from benchmarks.on_dataproc.stage import BUCKET, PACKAGES, Stage, stage

NAME = "dataproc_chain"
MODES, SIDES = ("running", "deferrable"), ("ours", "peers")
CHAINS = tuple(f"{side}-{mode}" for mode in MODES for side in SIDES)
#: seconds of create, job and delete
DELAYS = {"short": (10.0, 5.0, 5.0), "long": (90.0, 60.0, 60.0)}
GOAL = 0.25
RESULT = "285\n"
#: seconds that one run may take beyond its delays
ENOUGH = 240.0

Rounds = list[dict[str, Any]]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dataproc-chain-repeats", type=int, default=10, help="repetitions of dataproc_chain (10)")
    parser.add_argument("--dataproc-chain-parts", default=",".join(CHAINS), help="what dataproc_chain measures (all)")
    parser.add_argument("--dataproc-chain-delays", default=",".join(DELAYS), help="with which delays (short,long)")
    parser.add_argument(
        "--dataproc-chain-warm-ups", type=int, default=1, help="first rounds of each delay that do not count (1)"
    )
    parser.add_argument(
        "--dataproc-chain-calm", type=float, default=20, help="seconds to wait for an idle machine before a run (20)"
    )


def main(options: Namespace) -> None:
    facts = report.machine()
    wanted = options.dataproc_chain_delays.split(",")
    rounds: dict[str, Rounds] = {name: [] for name in wanted}
    try:
        with stage() as on:
            attempt(partial(dag_run, on, "floor", {}, ENOUGH))  # the first run of an Airflow is none to count
            for name in wanted:
                _measure(on, options, name, rounds[name])
    finally:
        if any(rounds.values()):  # an hour of measuring is not lost to Ctrl-C
            _report(options, facts, rounds)


def _measure(on: Stage, options: Namespace, delays: str, rounds: Rounds) -> None:
    create, _, delete = DELAYS[delays]
    on.take({"create": create, "delete": delete})
    parts = ("floor", *options.dataproc_chain_parts.split(","))
    warm_ups = options.dataproc_chain_warm_ups
    for number in range(warm_ups + options.dataproc_chain_repeats):
        found = {}
        for name in parts:
            found[name] = attempt(partial(_part, on, name, f"{delays}-{number}", options.dataproc_chain_calm))
            what = f"round {number - warm_ups + 1}" if number >= warm_ups else "warm-up"
            print(f"  {delays}, {what}: {told(name, found[name])}", flush=True)
        if number >= warm_ups:
            rounds.append(found)


def _part(on: Stage, name: str, number: str, calm: float) -> dict[str, Any]:
    if name == "floor":
        return dag_run(on, name, {}, ENOUGH, calm=calm)
    delays = DELAYS[number.partition("-")[0]]
    results = f"results/{name}-{number}"
    asked = {"name": f"{name}-{number}", "results": f"{BUCKET}/{results}", "seconds": str(delays[1])}
    on.calls()
    try:
        found = dag_run(on, name, asked, ENOUGH + sum(delays), "clusters", calm)
        calls = on.calls()
        calls.pop("clusters.list", None)  # our own look whether something is left
        found |= {"calls": sum(calls.values()), "calls_by_method": calls, "delays": sum(delays)}
        if found["state"] == "success" and (left := on.result(results)) != RESULT:
            found["why"] = f"the result is {left!r}"
        if found["gone"] is None:
            found["why"] = f"{found.get('why', '')} left after a minute: {on.objects('clusters')}".strip()
        return found
    finally:
        on.sweep()


# --- what it says ---


def above(rounds: Rounds, name: str) -> list[float]:
    """Seconds above floor and delays, of the rounds in which both succeeded."""
    good = [of for of in rounds if of[name]["ok"] and of["floor"]["ok"]]
    return [of[name]["seconds"] - of["floor"]["seconds"] - of[name]["delays"] for of in good]


def ratios(rounds: Rounds) -> dict[str, float | None]:
    """Ours to the peers', above floor and delays, by mode."""
    found: dict[str, float | None] = {}
    for mode in MODES:
        ours, peers = (above(rounds, f"{side}-{mode}") if f"{side}-{mode}" in rounds[0] else [] for side in SIDES)
        found[mode] = round(report.median(ours) / report.median(peers), 3) if ours and peers else None
    return found


def summary(rounds: Rounds, name: str) -> dict[str, Any]:
    """The figures of one part, over the rounds in which it succeeded."""
    good = [of[name] for of in rounds if of[name]["ok"]]
    found: dict[str, Any] = {"failures": len(rounds) - len(good), "runs": len(rounds)}
    for key in ("seconds", "gone", "slot_seconds", "calls", "cpu_seconds", "retries"):
        if good and all(of.get(key) is not None for of in good):
            found[key] = report.summary([of[key] for of in good])
    if name != "floor" and (seconds := above(rounds, name)):
        found["above"] = report.summary(seconds)
    return found


def _report(options: Namespace, facts: dict[str, Any], rounds: dict[str, Rounds]) -> None:
    columns = {"seconds": ".2f", "above": "+.2f", "gone": ".1f", "slot_seconds": ".1f", "calls": ".0f"}
    measured = {}
    for delays, of_delays in rounds.items():
        if not of_delays:
            continue
        summaries = {name: summary(of_delays, name) for name in of_delays[0]}
        rows = []
        for name, of in summaries.items():
            cells = [f"{of[key]['median']:{form}}" if key in of else "" for key, form in columns.items()]
            rows.append([name, *cells, f"{of['failures']} of {of['runs']}"])
        title = f"{delays}: seconds, median of {len(of_delays)} rounds (above: floor and {DELAYS[delays]} s)"
        report.print_table(title, ["", "all", "above", "gone", "slot s", "API calls", "failed"], rows)
        found = ratios(of_delays)
        for mode, ratio in found.items():
            said = "no figure" if ratio is None else f"{ratio:.3f}"
            print(f"  ours to the peers', {delays}, {mode}: {said} (goal: at most {GOAL})")
        measured[delays] = {"ratio_above": found, "summary": summaries, "rounds": of_delays}
    result = {
        "repeats_wanted": options.dataproc_chain_repeats,
        "delays": DELAYS,
        "goal_ratio": GOAL,
        "measured": measured,
    }
    print(f"  {report.save(NAME, facts, result, PACKAGES)}", flush=True)
