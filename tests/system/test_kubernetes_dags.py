"""The DAGs for Kubernetes under a real Airflow, on a real Kubernetes."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.kubernetes import Airflow

FLIGHTS = Path(__file__).resolve().parents[2] / "jobs" / "flights.py"
#: parameters of the DAGs, which run side by side: most of each is waiting
RUNS: dict[str, dict[str, Any]] = {
    "dask_kubernetes_ephemeral": {"day": "2013-02-01", "days": 3, "workers": 2},
    "dask_kubernetes_autoscale": {"days": 1, "most": 2},
    "optuna_hyperparameters": {"trials": 3, "workers": 2, "packages": None},
}
Ended = Callable[[str], Path]


@pytest.fixture(scope="module")
def ended(kubernetes_airflow: Airflow) -> Iterator[Ended]:
    """Waits for one of the runs, and gives the folder of its result. In the end nothing of any may be left."""
    begun = {dag_id: kubernetes_airflow.begin(dag_id, **params) for dag_id, params in RUNS.items()}
    yield lambda dag_id: kubernetes_airflow.end(dag_id, begun[dag_id])
    for run in begun.items():
        kubernetes_airflow.server.client.wait_for_run(*run, timeout=480)
    asyncio.run(kubernetes_airflow.place.assert_nothing_left())


def locally(source: Path, target: Path, *arguments: str) -> dict[str, Any]:
    """The summary of the same script on this machine."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    command = [sys.executable, str(FLIGHTS), "--input", str(source), "--output", str(target), *arguments]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=300)
    made: dict[str, Any] = json.loads((target / "summary.json").read_text())
    return made


def summary(folder: Path) -> tuple[int, int]:
    made = json.loads((folder / "summary.json").read_text())
    return made["flights"], made["cancelled"]


def test_flights(ended: Ended, flights: Path, tmp_path: Path) -> None:
    folder = ended("dask_kubernetes_ephemeral")
    # Counted row by row in the CSV files, as for flights_daily.
    assert summary(folder) == (2422, 36)
    here = locally(flights / "input", tmp_path, "--day", "2013-02-01", "--days", "3")
    assert json.loads((folder / "summary.json").read_text()) == pytest.approx(here)
    assert {path.name for path in folder.iterdir()} >= {"_manifest.json", "daily", "carriers", "weather"}


def test_autoscale(ended: Ended) -> None:
    folder = ended("dask_kubernetes_autoscale")
    # Counted row by row in the CSV files of 1 January and 1 July.
    assert (summary(folder / "0"), summary(folder / "1")) == ((842, 4), (966, 85))


def of(trial: dict[str, str]) -> tuple[str, str]:
    return trial["study"], trial["mode"]


def test_optuna(ended: Ended) -> None:
    folder = ended("optuna_hyperparameters")
    best = json.loads((folder / "best.json").read_text())
    assert (best["threads"], set(best["studies"])) == (2, {"tree", "forest"})
    with (folder / "trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    for name, found in best["studies"].items():
        # The first ten proposals of a study do not depend on scores: both modes try the same, and must agree.
        tried = {
            mode: {trial["parameters"]: float(trial["value"]) for trial in trials if of(trial) == (name, mode)}
            for mode in ("serial", "parallel")
        }
        assert tried["serial"] == tried["parallel"]
        assert len(tried["serial"]) == 3
        for mode, values in tried.items():
            assert values[json.dumps(found[mode]["parameters"])] == found[mode]["value"] == max(values.values())
    assert (folder / "trials.png").read_bytes().startswith(b"\x89PNG")
