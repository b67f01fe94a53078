"""CPU seconds of importing operators, beyond Airflow's own base classes: ours beside those of three peers.

What a DAG file imports is paid for at every parse, and by every task that runs from it. Each import happens in a fresh
interpreter that has imported `airflow.sdk` and its BaseOperator before; `beyond` are the CPU seconds (user and system,
all threads) that this process uses from there on, and `whole` is the operating system's account of all of it, from
start to exit, as a check on them. All take turns; bytecode is compiled in a first turn that is not counted.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

from benchmarks import meters, report

NAME = "import_cost"
GOAL = 0.05
BASE = "import airflow.sdk; from airflow.sdk import DAG, BaseOperator"
NOTHING = "airflow.sdk + BaseOperator"
PROGRAM = f"""\
import sys, time
{BASE}
before, loaded = time.process_time(), len(sys.modules)
{{statement}}
print("beyond", time.process_time() - before, len(sys.modules) - loaded)
"""
OURS = "dask_provider"
PEERS = {
    "cncf.kubernetes": "from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator",
    "google.dataproc": (
        "from airflow.providers.google.cloud.operators.dataproc import "
        "DataprocCreateClusterOperator, DataprocDeleteClusterOperator, DataprocSubmitJobOperator"
    ),
    "amazon.eks": "from airflow.providers.amazon.aws.operators.eks import EksPodOperator",
}
OPERATORS = {
    OURS: ("from dask_provider.operators import DaskCreateClusterOperator, DaskDeleteClusterOperator, DaskJobOperator"),
    **PEERS,
}
#: what a DAG file imports: the specs, the block and the store step as well
WHOLE = f"{OURS}, all of a DAG file"
WHOLE_IMPORT = (
    "from dask_provider.clusters import LocalCluster; from dask_provider.task_groups import dask_cluster; "
    "from dask_provider.operators import DaskJobOperator, DaskStoreResultsOperator"
)
PACKAGES = (
    "apache-airflow-providers-cncf-kubernetes",
    "apache-airflow-providers-google",
    "apache-airflow-providers-amazon",
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--import-repeats", type=int, default=9, help="repetitions of import_cost (9)")


def main(options: Namespace) -> None:
    facts = report.machine()
    turns = measure(options.import_repeats)
    beyond = {name: [turn.beyond for turn in of] for name, of in turns.items()}
    whole = {name: [turn.whole for turn in of] for name, of in turns.items()}
    medians = {name: report.median(values) for name, values in beyond.items()}
    cheapest = min(medians[name] for name in PEERS)
    rows = []
    for name, value in medians.items():
        spread = f"{min(beyond[name]):.3f} to {max(beyond[name]):.3f}"
        count = str(turns[name][-1].modules)
        ratio = f"{value / cheapest:.3f}"
        rows.append([name, f"{report.median(whole[name]):.2f}", f"{value:.3f}", spread, count, ratio])
    title = f"CPU seconds, median of {options.import_repeats} (goal: at most {GOAL} of the cheapest peer)"
    report.print_table(title, ["", "whole", "beyond", "spread", "modules", "ratio"], rows)
    result = {
        "repeats": options.import_repeats,
        "goal_ratio": GOAL,
        "whole_cpu_seconds": {name: report.summary(values) for name, values in whole.items()},
        "beyond_cpu_seconds": {name: report.summary(values, 4) for name, values in beyond.items()},
        "ratio_to_cheapest_peer": {name: round(value / cheapest, 4) for name, value in medians.items()},
        "more_modules": {name: of[-1].modules for name, of in turns.items()},
    }
    report.save(NAME, facts, result, PACKAGES)


@dataclass(frozen=True)
class Turn:
    whole: float
    beyond: float
    modules: int


def measure(repeats: int) -> dict[str, list[Turn]]:
    statements = {NOTHING: "pass", **OPERATORS, WHOLE: WHOLE_IMPORT}
    turns: dict[str, list[Turn]] = {name: [] for name in statements}
    with tempfile.TemporaryDirectory(prefix="import-cost-") as home:
        env = {**meters.clean_environment(), "AIRFLOW_HOME": home}
        for number in range(repeats + 1):
            for name, statement in statements.items():
                before = meters.reaped_cpu()
                said = meters.output([sys.executable, "-c", PROGRAM.format(statement=statement)], env)
                whole = meters.reaped_cpu() - before
                _, seconds, modules = said.splitlines()[-1].split()
                if number:
                    turns[name].append(Turn(whole, float(seconds), int(modules)))
    return turns
