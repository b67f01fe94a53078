"""Hyperparameters of two models by Optuna: one trial after the other, and many at once over Dask. Plain Dask.

python jobs/optuna_search.py --output DIR_OR_URI --trials 40

Studies  tree     DecisionTreeClassifier (max_depth, min_samples_leaf), breast cancer, accuracy
         forest   RandomForestRegressor (n_estimators, max_depth, min_samples_split), diabetes, R squared
         Both data sets are real ones that scikit-learn brings; a score is the mean of a 5-fold cross-validation.
Writes   trials.csv  every trial: study, mode, number, value, parameters, seconds since the start of the study
         trials.png  the best value so far over time, serial and parallel
         best.json   best parameters, value, trials and seconds of each study and mode; written last

Trials are proposed and judged here and computed on the workers: a worker that dies costs the time of its trials, Dask
computes them again elsewhere, and no worker needs to reach Optuna's storage.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import fsspec
import optuna
from distributed import Client, as_completed
from optuna.distributions import IntDistribution

Parameters = dict[str, Any]

STUDIES: dict[str, dict[str, IntDistribution]] = {
    "tree": {"max_depth": IntDistribution(1, 20), "min_samples_leaf": IntDistribution(1, 40)},
    "forest": {
        "n_estimators": IntDistribution(10, 150),
        "max_depth": IntDistribution(1, 20),
        "min_samples_split": IntDistribution(2, 40),
    },
}
SEED = 7


def score(name: str, parameters: Parameters) -> float:
    """One trial. The same parameters have the same score, wherever it is computed."""
    from sklearn.datasets import load_breast_cancer, load_diabetes
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.tree import DecisionTreeClassifier

    if name == "tree":
        model, load = DecisionTreeClassifier(random_state=SEED, **parameters), load_breast_cancer
    else:
        # One thread: Dask knows how many trials a worker can bear, scikit-learn does not.
        model, load = RandomForestRegressor(random_state=SEED, n_jobs=1, **parameters), load_diabetes
    data, target = load(return_X_y=True)
    folds = KFold(5, shuffle=True, random_state=SEED)
    return float(cross_val_score(model, data, target, cv=folds).mean())


def serial(name: str, trials: int) -> Iterator[tuple[optuna.Study, optuna.trial.Trial, float]]:
    """One trial after the other, here."""
    study = new_study(parallel=False)
    for _ in range(trials):
        trial = study.ask(STUDIES[name])
        yield study, trial, score(name, trial.params)


def parallel(name: str, trials: int, client: Client) -> Iterator[tuple[optuna.Study, optuna.trial.Trial, float]]:
    """As many trials at once as the workers have threads; each that ends makes room for the next."""
    study = new_study(parallel=True)
    waiting = {}

    def submit() -> Any:
        trial = study.ask(STUDIES[name])
        # Not pure: two trials may have the same parameters.
        future = client.submit(score, name, trial.params, pure=False)
        waiting[future.key] = trial
        return future

    at_once = min(trials, sum(client.nthreads().values()))
    running = as_completed([submit() for _ in range(at_once)])
    started = at_once
    for future in running:
        yield study, waiting.pop(future.key), future.result()
        if started < trials:
            running.add(submit())
            started += 1


def new_study(*, parallel: bool) -> optuna.Study:
    # The constant liar keeps trials that run at the same time apart from each other.
    sampler = optuna.samplers.TPESampler(seed=SEED, constant_liar=parallel)
    return optuna.create_study(direction="maximize", sampler=sampler)


def run(target: str, trials: int, client: Client) -> None:
    rows: list[dict[str, Any]] = []
    best: dict[str, dict[str, Any]] = {}
    threads = sum(client.nthreads().values())
    for name, space in STUDIES.items():
        # Imports and first allocations of either side are no part of the comparison.
        first = {parameter: distribution.low for parameter, distribution in space.items()}
        score(name, first)
        client.run(score, name, first)
        for mode in ("serial", "parallel"):
            began = time.monotonic()
            for study, trial, value in serial(name, trials) if mode == "serial" else parallel(name, trials, client):
                study.tell(trial, value)
                at = round(time.monotonic() - began, 3)
                row = {"study": name, "mode": mode, "number": trial.number, "value": value, "at": at}
                rows.append(row | {"parameters": json.dumps(trial.params)})
            seconds = round(time.monotonic() - began, 3)
            found = {"value": study.best_value, "parameters": study.best_params, "trials": len(study.trials)}
            best.setdefault(name, {})[mode] = found | {"seconds": seconds}
            print(f"{name}, {mode}: {study.best_value:.4f} by {study.best_params} in {seconds:.1f} s", flush=True)
        best[name]["speedup"] = round(best[name]["serial"]["seconds"] / best[name]["parallel"]["seconds"], 2)
        print(f"{name}: {best[name]['speedup']} times as fast on {threads} threads of workers", flush=True)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    for file_name, content in (
        ("trials.csv", table.getvalue().encode()),
        ("trials.png", plot(rows)),
        ("best.json", json.dumps({"threads": threads, "studies": best}, indent=2).encode()),
    ):
        with fsspec.open(f"{target}/{file_name}", "wb", auto_mkdir=True) as file:
            file.write(content)


def plot(rows: list[dict[str, Any]]) -> bytes:
    """The best value so far over time, a picture for each study."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without a screen
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(STUDIES), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(STUDIES)), STUDIES, strict=True):
        for mode in ("serial", "parallel"):
            times, values, top = [], [], float("-inf")
            for row in rows:
                if (row["study"], row["mode"]) == (name, mode):
                    top = max(top, row["value"])
                    times.append(row["at"])
                    values.append(top)
            axes.step(times, values, where="post", marker=".", label=mode)
        axes.set(title=name, xlabel="seconds", ylabel="best score so far")
        axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


class Parser(argparse.ArgumentParser):
    """Refuses in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def number_of_trials(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return int(text)


def main() -> None:
    results = os.environ.get("DASK_JOB_RESULTS") or None
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default=results, metavar="URI", help="[environment: DASK_JOB_RESULTS]")
    parser.add_argument("--trials", type=number_of_trials, default=40, metavar="N", help="of each study [%(default)s]")
    arguments = parser.parse_args()
    if not arguments.output:
        parser.error("--output is missing, and so is the environment variable DASK_JOB_RESULTS")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Client() as client:  # the cluster at DASK_SCHEDULER_ADDRESS, or one made here
        run(arguments.output.rstrip("/"), arguments.trials, client)


if __name__ == "__main__":
    main()
