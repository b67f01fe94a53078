"""1,000 deferred waits for jobs in one namespace: what they ask of the API server, and what the triggerer needs.

Real are: API server and etcd, the Airflow with its triggerer, the rows in its database, the triggers, the Jobs and the
pods, and one job of each side that went the whole way through scheduler and worker. The other Jobs and pods are copies
of that one's, their tasks were written into the database as deferred (`rows.py`). Nothing runs: once all is made,
Kubernetes' controllers are stopped, and a stand-in for a kubelet answers for the logs of the pods (`kubelet.py`).
Neither API server nor triggers can tell the difference.

Three states of the jobs, one after the other: `pending`, their containers have not started yet; `quiet`, they run and
write nothing; `lively`, each writes a line every ten seconds (the peers' trigger reads no logs, so for it that is the
same). Requests are counted by the account of the side, from the API server's audit log.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import meters, report
from benchmarks.on_kubernetes.runs import TROUBLE
from benchmarks.on_kubernetes.stage import ALL, PACKAGES, Stage, stage
from benchmarks.on_kubernetes.waits.copies import Copies
from benchmarks.on_kubernetes.waits.kubelet import Kubelet, stand_in

NAME = "kubernetes_waits"
HERE = Path(__file__).resolve().parent / "on_kubernetes" / "waits"
SIDES = ("ours", "peers")
STATES = ("pending", "quiet", "lively")
#: until waits have found their pace after a change: ours take 40 s to ask for events no more often than every 10 s
SETTLE = 45.0
#: seconds between the lines of a lively job
LIVELY = 10.0
MIB = 2**20


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--kubernetes-waits", type=int, default=1000, help="waits of kubernetes_waits (1000)")
    parser.add_argument("--kubernetes-waits-repeats", type=int, default=1, help="repetitions of kubernetes_waits (1)")
    parser.add_argument("--kubernetes-waits-seconds", type=float, default=60, help="length of each of its windows (60)")
    parser.add_argument("--kubernetes-waits-sides", default=",".join(SIDES), help="whose waits (both)")
    parser.add_argument("--kubernetes-waits-settle", type=float, default=SETTLE, help=f"pause before each ({SETTLE:g})")


def main(options: Namespace) -> None:
    facts = report.machine()
    windows: list[dict[str, Any]] = []
    try:
        for number in range(options.kubernetes_waits_repeats):
            for side in options.kubernetes_waits_sides.split(","):
                try:
                    measure(options, side, number, windows)
                except TROUBLE as error:  # counted and shown; the other side is measured all the same
                    windows.append(
                        {"side": side, "round": number, "ok": False, "why": f"{type(error).__name__}: {error}"}
                    )
                    print(f"  {windows[-1]}", flush=True)
    finally:
        if windows:  # what was measured is not lost to Ctrl-C
            _report(options, facts, windows)


def measure(options: Namespace, side: str, number: int, windows: list[dict[str, Any]]) -> None:
    """Adds a window for each state of the jobs."""
    from dask_provider.hooks.kubernetes.rights import PLAIN, role_rules

    rules = role_rules(PLAIN) if side == "ours" else ALL
    env = partial(_environment, side, options.peers_poll)
    with stage(HERE / "dags", {side: rules}, "api", env) as on, stand_in(on.kubernetes.state / "pki") as kubelet:
        bench = Bench(on, kubelet, side, options.kubernetes_waits)
        for state in STATES:
            bench.to(state)
            time.sleep(options.kubernetes_waits_settle)
            found = bench.window(options.kubernetes_waits_seconds)
            windows.append({"side": side, "round": number, "ok": True, "state": state, **found})
            print(f"  {side} {state}: {found}", flush=True)


def _environment(side: str, poll: float, namespace: str, shared: str) -> dict[str, str]:
    return {"BENCHMARK_SIDE": side, "BENCHMARK_POLL": str(poll)}


class Bench:
    """One Airflow whose triggerer holds waits of one side."""

    def __init__(self, on: Stage, kubelet: Kubelet, side: str, waits: int) -> None:
        self._on, self._kubelet, self._side, self._waits = on, kubelet, side, waits
        on.kubernetes.kubectl("create", "-f", "-", input=json.dumps(kubelet.node()))
        run = on.client.trigger("waits")
        _until(lambda: self._deferred(run), 180, "the task does not defer")
        (job,), (pod,) = (self._bound(kind) for kind in ("jobs", "pods"))
        for name in ("controllers", "scheduler"):  # no pod is made any more, none is evicted from its dead node
            on.kubernetes.control("stop", name)
        self._copies = Copies(on.kubernetes, on.namespace, job, pod)
        self._copies.make(waits - 1)
        arguments = [run, str(waits - 1), job["metadata"]["name"]]
        meters.output([sys.executable, str(HERE / "rows.py"), *arguments], on.airflow.environment)
        _until(lambda: self._followed() >= waits, 600, f"the triggerer does not follow {waits} waits")

    def to(self, state: str) -> None:
        """Put all jobs into a state; the order is that of STATES."""
        if state == "quiet":
            self._copies.run(self._waits - 1)
        self._kubelet.write(LIVELY if state == "lively" else None)

    def window(self, seconds: float) -> dict[str, Any]:
        triggerer = self._on.airflow.pid("triggerer")
        pids = [triggerer, *(child.pid for child in psutil.Process(triggerer).children(recursive=True))]
        server = self._on.kubernetes.daemons.pid("apiserver")
        assert server is not None
        processes = [*pids, server]
        self._on.audit.new()
        before, begin, blocked = [_cpu(pid) for pid in processes], time.monotonic(), self._blocked()
        time.sleep(seconds)
        asked: Counter[str] = self._on.audit.new().get(self._side, Counter())
        lasted = time.monotonic() - begin
        cpu = [(_cpu(pid) - was) / lasted for pid, was in zip(processes, before, strict=True)]
        return {
            "requests_per_second": round(asked.total() / lasted, 2),
            "requests_by_kind": {what: round(count / lasted, 3) for what, count in asked.items()},
            "lasting_requests": dict(self._on.audit.lasting(self._side)),
            "logs_read": len(self._kubelet.streams),
            "triggerer_cpu_of_a_core": round(sum(cpu[:-1]), 3),
            "triggerer_mib": round(sum(meters.rss(pid) for pid in pids) / MIB, 1),
            "apiserver_cpu_of_a_core": round(cpu[-1], 3),
            "event_loop_blocked": self._blocked() - blocked,
        }

    def _deferred(self, run: str) -> bool:
        instance = self._on.client.call("GET", f"/dags/waits/dagRuns/{run}/taskInstances/job")
        if instance["state"] in ("failed", "success"):
            raise RuntimeError(
                f"the task is {instance['state']}: {self._on.client.task_log('waits', run, 'job')[-2000:]}"
            )
        return (instance["trigger"] or {}).get("triggerer_id") is not None and bool(self._bound("pods"))

    def _bound(self, kind: str) -> list[dict[str, Any]]:
        """All of a kind; pods once they have their node."""
        items: list[dict[str, Any]] = self._on.kubernetes.get(kind, "-n", self._on.namespace)["items"]
        return [item for item in items if kind != "pods" or item["spec"].get("nodeName")]

    def _followed(self) -> int:
        logs = self._on.airflow.home / "logs" / "dag_id=waits"
        return sum(1 for _ in logs.glob("**/*.trigger.*.log"))

    def _blocked(self) -> int:
        log = self._on.airflow.home / "logs" / "triggerer.log"
        return log.read_text(errors="replace").count("thread was blocked")


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _until(true: Callable[[], bool], seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s: {complaint}")
        time.sleep(0.5)


def _report(options: Namespace, facts: dict[str, Any], windows: list[dict[str, Any]]) -> None:
    keys = ("requests_per_second", "triggerer_cpu_of_a_core", "triggerer_mib", "apiserver_cpu_of_a_core")
    rows: list[list[str]] = []
    summaries: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        failures = sum(1 for each in windows if each["side"] == side and not each["ok"])
        summaries[side] = {"failures": failures, "states": {}}
        for state in STATES:
            good = [each for each in windows if each["side"] == side and each.get("state") == state]
            if not good:
                rows.append([f"{side} {state}", *[""] * 5, str(failures)])
                continue
            found = {key: report.summary([each[key] for each in good]) for key in keys}
            summaries[side]["states"][state] = found
            watches = report.median(each["lasting_requests"].get("watch jobs", 0) for each in good)
            cells = [
                f"{found[key]['median']:{form}}" for key, form in zip(keys, (".1f", ".0%", ".0f", ".0%"), strict=True)
            ]
            rows.append([f"{side} {state}", *cells, f"{watches:.0f}", str(failures)])
    head = ["", "requests/s", "triggerer CPU", "RSS MiB", "API server CPU", "watches", "failed"]
    title = f"{options.kubernetes_waits:,} waits, windows of {options.kubernetes_waits_seconds:.0f} s; CPU of a core"
    report.print_table(title, head, rows)
    result = {
        "waits": options.kubernetes_waits,
        "window_seconds": options.kubernetes_waits_seconds,
        "peers_poll_seconds": options.peers_poll,
        "lively_every_seconds": LIVELY,
        "repeats_wanted": options.kubernetes_waits_repeats,
        "summary": summaries,
        "windows": windows,
    }
    print(f"  {report.save(NAME, facts, result, PACKAGES)}", flush=True)
