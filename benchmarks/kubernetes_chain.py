"""create -> job -> store -> delete on a real Kubernetes: ours beside the operators of the cncf.kubernetes provider.

In turn, in one go: a DAG of four tasks that do nothing (`floor`), the steps with kubectl (`by hand`), and the two
chains, each waiting in the worker (`running`) and with `deferrable=True`. All make the same DaskCluster and run the
same program in the same image. `ours-deferred` is ours with every wait in the triggerer: as it comes, a wait of less
than `[dask] sync_seconds` never defers. `ours-asking-*` is ours with a delete step that does not wait (`wait=0`).

What counts is the wall time of the DAG run above floor and by hand, the difference within each round. A run counts as
failed if its state is not success, if the result is missing or wrong, or if something of the cluster is left a minute
later. The peers' chain stores nothing: its job writes to where the result belongs.

Two ends count. `above` is up to the end of the run. But ours, as it comes, waits until the cluster is gone; the peers'
run, and the one by hand, end while their pods still do, as `ours-asking` does. So `above, gone` adds to all what there
is from their end until nothing costly is left (`gone`). Each has a ratio of its own; of the same work, but for the
store step, are `ours-asking` by the end of the run, and `ours` until all is gone.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import meters, report
from benchmarks.on_kubernetes.chain import manifests
from benchmarks.on_kubernetes.runs import attempt, counts, dag_run, told, until_gone
from benchmarks.on_kubernetes.stage import ALL, PACKAGES, Stage, stage
from tests.servers.kubernetes import DASK_IMAGE

NAME = "kubernetes_chain"
HERE = Path(__file__).resolve().parent
MODES = ("running", "deferrable")
CHAINS = tuple(f"{side}-{mode}" for mode in MODES for side in ("ours", "ours-asking", "peers"))
EXTRA = "ours-deferred"
BASE = ("floor", "by-hand")
STEPS = ("create", "job", "store", "delete")
GOAL = 0.2
RESULT = "285\n"
#: seconds that one run may take
ENOUGH = 300.0
#: what costs money, and must be gone
COSTLY = "daskclusters,daskworkergroups,daskautoscalers,deployments,services,pods"
#: what the peers leave in any case: their Jobs
OTHERS = "jobs,configmaps,secrets"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--kubernetes-chain-repeats", type=int, default=20, help="repetitions of kubernetes_chain (20)")
    parts = ",".join((*CHAINS, EXTRA))
    parser.add_argument("--kubernetes-chain-parts", default=parts, help="what kubernetes_chain measures (all)")
    parser.add_argument(
        "--peers-poll",
        type=float,
        default=10,
        help="job_poll_interval of the peers' KubernetesJobOperator (10, its default)",
    )


def main(options: Namespace) -> None:
    facts = report.machine()
    rounds: list[dict[str, Any]] = []
    try:
        measure(options, rounds)
    finally:
        if rounds:  # an hour of measuring is not lost to Ctrl-C
            _report(options, facts, rounds)


def measure(options: Namespace, rounds: list[dict[str, Any]]) -> None:
    """One warm-up round, which is not counted, then the counted ones, each added to `rounds` when it is complete."""
    from dask_provider.hooks.kubernetes.rights import role_rules

    parts = (*BASE, *options.kubernetes_chain_parts.split(","))
    accounts = {name: role_rules() if name.startswith("ours") else ALL for name in parts if name != "floor"}

    def env(namespace: str, shared: str) -> dict[str, str]:
        asked = manifests.fields(namespace, shared, DASK_IMAGE)
        cluster = manifests.cluster(asked)
        return {
            "BENCHMARK_POLL": str(options.peers_poll),
            "BENCHMARK_FIELDS": json.dumps(asked),
            "BENCHMARK_CLUSTER": cluster,
        }

    with stage(HERE / "on_kubernetes" / "chain" / "dags", accounts, env=env) as on:
        shutil.copy(HERE / "chain" / "job.py", on.shared)
        for number in range(options.kubernetes_chain_repeats + 1):
            found = {}
            for name in parts:
                found[name] = attempt(partial(_part, on, name, number))
                print(f"  {f'round {number}' if number else 'warm-up'}: {told(name, found[name])}", flush=True)
            if number:
                rounds.append(found)


def _part(on: Stage, name: str, number: int) -> dict[str, Any]:
    results = on.shared / "results" / f"{name}-{number}"
    on.audit.new()
    if name == "floor":
        return _checked(dag_run(on, name, {}, ENOUGH), results, wanted=False)
    try:
        if name == "by-hand":
            found = _by_hand(on, results, f"hand-{number}")
        else:
            found = dag_run(on, name, {"name": f"{name}-{number}", "results": str(results)}, ENOUGH, COSTLY)
        found = {**_checked(found, results), **counts(on, name)}
        if found["gone"] is None:
            found["why"] = f"{found.get('why', '')} left after a minute: {on.objects(COSTLY)}".strip()
        return found
    finally:
        on.sweep(f"{COSTLY},{OTHERS}")


def _checked(found: dict[str, Any], results: Path, *, wanted: bool = True) -> dict[str, Any]:
    """With `why` it failed, if it did."""
    path = results / "total.txt"
    if found["state"] == "success" and wanted and (not path.exists() or path.read_text() != RESULT):
        return {**found, "why": f"{path.name} is {path.read_text() if path.exists() else 'missing'}"}
    return found


def _by_hand(on: Stage, results: Path, name: str) -> dict[str, Any]:
    meters.wait_until_calm()
    folder = on.shared / name
    (folder / "staging").mkdir(parents=True)
    results.parent.mkdir(exist_ok=True)
    asked = manifests.fields(on.namespace, str(on.shared), DASK_IMAGE)
    for kind, text in (("cluster", manifests.cluster(asked)), ("job", manifests.job(asked, f"{folder}/staging"))):
        (folder / f"{kind}.json").write_text(text.replace(manifests.NAME, name))
    script = HERE / "on_kubernetes" / "chain" / "by_hand.sh"
    pods = str(manifests.WORKERS + 1)
    command = [script, name, folder / "cluster.json", folder / "job.json", pods, folder / "staging", results]
    path = f"{on.kubernetes.prepared.programs}:/usr/bin:/bin"
    env = {"PATH": path, "HOME": str(folder), "KUBECONFIG": str(on.kubeconfigs["by-hand"])}
    done = subprocess.run([str(each) for each in command], env=env, capture_output=True, text=True, timeout=ENOUGH)
    if done.returncode:
        raise RuntimeError(f"by_hand.sh: {done.stderr.strip()[-500:]}")
    times = {step: float(moment) for step, moment in (line.split() for line in done.stdout.splitlines())}
    pairs = itertools.pairwise(times.items())
    steps = {step: round(after - before, 3) for (_, before), (step, after) in pairs}
    gone = until_gone(on, COSTLY, times["delete"])
    return {"state": "success", "seconds": round(sum(steps.values()), 3), "steps": steps, "gone": gone}


# --- what it says ---


def above(rounds: list[dict[str, Any]], name: str, *, gone: bool = False) -> list[float]:
    """Seconds above floor and by hand, of the rounds in which all three succeeded.

    :param gone: up to the moment when nothing costly is left, instead of the end of the run.
    """

    def lasted(of: dict[str, Any]) -> float:
        return float(of["seconds"] + (of.get("gone", 0.0) if gone else 0.0))

    complete = [of for of in rounds if all(each in of and of[each]["ok"] for each in (name, *BASE))]
    return [lasted(of[name]) - sum(lasted(of[each]) for each in BASE) for of in complete]


def ratios(rounds: list[dict[str, Any]], side: str, *, gone: bool = False) -> dict[str, float | None]:
    """Of our `side` to the peers, above floor and by hand, by mode."""
    found: dict[str, float | None] = {}
    for mode in MODES:
        ours, peers = (above(rounds, f"{each}-{mode}", gone=gone) for each in (side, "peers"))
        found[mode] = round(report.median(ours) / report.median(peers), 3) if ours and peers else None
    return found


def steps(name: str, found: dict[str, Any]) -> dict[str, float | None]:
    """How long each step took, from the end of the one before to its own end; the last one is the end of the run.

    Store and delete run side by side in ours.
    """
    if "steps" in found:
        return dict(found["steps"])
    ids = {"create": "etl.create_cluster", "job": "etl.job", "delete": "etl.delete_cluster"} if "ours" in name else {}
    ends = {step: found["tasks"].get(ids.get(step, step), [None, None])[1] for step in ("create", "ready", *STEPS)}
    ends["create"] = ends["ready"] or ends["create"]  # the peers' create step is over when the sensor is
    made: dict[str, float | None] = {}
    for step, before in (("create", 0.0), ("job", ends["create"]), ("store", ends["job"]), ("delete", ends["job"])):
        if step == "delete" and name == "floor":
            before = ends["store"]
        made[step] = None if ends[step] is None or before is None else round(ends[step] - before, 3)
    last = max((end for end in ends.values() if end is not None), default=None)
    return {**made, "end": None if last is None else round(found["seconds"] - last, 3)}


def summary(rounds: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The figures of one part, over the rounds in which it succeeded."""
    good = [of[name] for of in rounds if of[name]["ok"]]
    found: dict[str, Any] = {"failures": len(rounds) - len(good), "runs": len(rounds)}
    lasted = [steps(name, of) for of in good]
    found["steps"] = {step: _median(of.get(step) for of in lasted) for step in (*STEPS, "end")}
    for key in ("seconds", "gone", "slot_seconds", "requests", "cpu_seconds", "retries"):
        if good and all(of.get(key) is not None for of in good):
            found[key] = report.summary([of[key] for of in good])
    for key, gone in (("above", False), ("above_gone", True)):
        if name not in BASE and (seconds := above(rounds, name, gone=gone)):
            found[key] = report.summary(seconds)
    return found


def _report(options: Namespace, facts: dict[str, Any], rounds: list[dict[str, Any]]) -> None:
    summaries = {name: summary(rounds, name) for name in rounds[0]}
    columns = {
        "seconds": ".2f",
        "above": "+.2f",
        "gone": ".1f",
        "above_gone": "+.2f",
        "slot_seconds": ".1f",
        "requests": ".0f",
    }
    rows = []
    for name, of in summaries.items():
        cells = ["" if value is None else f"{value:.2f}" for value in of["steps"].values()]
        cells += [f"{of[key]['median']:{form}}" if key in of else "" for key, form in columns.items()]
        rows.append([name, *cells, f"{of['failures']} of {of['runs']}"])
    head = ["", *STEPS, "end", "all", "above", "gone", "above, gone", "slot s", "requests", "failed"]
    report.print_table(f"seconds, median of {len(rounds)} rounds (above: floor and by hand)", head, rows)
    by_end, asking, by_gone = ratios(rounds, "ours"), ratios(rounds, "ours-asking"), ratios(rounds, "ours", gone=True)
    ends = {
        "by the end of the run": by_end,
        "by the end of the run, none waits for the deletion": asking,
        "until all is gone": by_gone,
    }
    for what, of in ends.items():
        for mode, ratio in of.items():
            said = "no figure" if ratio is None else f"{ratio:.3f}"
            print(f"  ours to the peers', {mode}, {what}: {said} (goal: at most {GOAL})")
    result = {
        "workers": manifests.WORKERS,
        "repeats_wanted": options.kubernetes_chain_repeats,
        "repeats": len(rounds),
        "peers_poll_seconds": options.peers_poll,
        "goal_ratio": GOAL,
        "ratio_above": by_end,
        "ratio_above_asking": asking,
        "ratio_above_gone": by_gone,
        "summary": summaries,
        "rounds": rounds,
    }
    print(f"  {report.save(NAME, facts, result, PACKAGES)}", flush=True)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(report.median(known), 3) if known else None
