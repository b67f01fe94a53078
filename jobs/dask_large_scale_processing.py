"""Features of a large Parquet data set: times, rolling means, outliers, logarithms, scores. Plain Dask: it runs on any
cluster.

python jobs/dask_large_scale_processing.py --input-pattern 'DIR_OR_URI/*.parquet' --output-path DIR_OR_URI

Reads   Parquet files with the same columns, once: the workers keep them
Writes  part-….parquet  about 100 MB each (in memory), Snappy: all rows and columns, and
          hour, day_of_week (Monday is 0), month     of `timestamp`; one without a zone is UTC
          rolling_mean, rolling_std                  of `value` in the 7 days up to `timestamp`; rows are sorted by it
          COLUMN_is_outlier                          more than 1.5 interquartile ranges outside the quartiles
          COLUMN_log                                 log(1 + x) of what is above 0
          COLUMN_zscore                              (x - mean) / deviation of the first five, 0 where all are equal
        for every numeric COLUMN of the input
        _summary.json   rows, files, and the statistics that the features were made with; written last

Quartiles are near, not exact: by less than 0.5 % of the rows. `_summary.json` has those that were used.

The cluster is the one at DASK_SCHEDULER_ADDRESS, then its place has said how large it is and how it grows. Without one
it is made here, of workers with --worker-vcores and --worker-memory each, as many as --min-workers or, with
--adaptive-scaling, up to --max-workers: by dask-yarn where its configuration names an environment (yarn.environment),
else of processes of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import dask
import dask.dataframe as dd
import fsspec
import numpy as np
import pandas as pd
from dask.utils import parse_bytes
from distributed import Client, LocalCluster

PART_BYTES = 100 * 2**20
WINDOW = "7D"
SCORED = 5
#: seconds between two lines about the cluster
WATCH_EVERY = 30.0
SETTINGS = {
    # A shuffle of plain tasks survives a worker that is taken away, as preemptible ones are.
    "dataframe.shuffle.method": "tasks",
    # Of a scheduler that is made here: workers that may die below a task before the task is blamed.
    "distributed.scheduler.allowed-failures": 10,
}


@contextmanager
def cluster(workers: tuple[int, int], vcores: int, memory: str) -> Iterator[Client]:
    """A client of the cluster that is given, or of one that ends with the block.

    :param workers: fewest and most; equal for a fixed number.
    """
    fewest, most = workers
    with ExitStack() as stack:
        if dask.config.get("scheduler-address", None):
            client = stack.enter_context(Client())
            print(f"the cluster at {client.scheduler.address} is as its place made it", flush=True)
        else:
            if dask.config.get("yarn.environment", None):
                from dask_yarn import YarnCluster

                made = YarnCluster(n_workers=fewest, worker_vcores=vcores, worker_memory=memory, name="large-scale")
            else:
                made = LocalCluster(n_workers=fewest, threads_per_worker=vcores, memory_limit=memory)
            stack.enter_context(made)
            if most > fewest:
                made.adapt(minimum=fewest, maximum=most, wait_count=3, interval="10s")
            client = stack.enter_context(Client(made))
            client.wait_for_workers(1, timeout=600)
        yield client


@contextmanager
def watched(client: Client, every: float = WATCH_EVERY) -> Iterator[None]:
    """Say from time to time how many workers there are and what they have to do. From here, not from a worker."""
    over = threading.Event()

    def look(dask_scheduler: Any) -> tuple[int, int]:
        workers = dask_scheduler.workers.values()
        return len(workers), sum(len(worker.processing) for worker in workers)

    def watch() -> None:
        while not over.wait(every):
            try:
                workers, tasks = client.run_on_scheduler(look)
            except Exception as error:  # noqa: BLE001  whatever it is, the job itself will meet it, or not
                print(f"the cluster is no longer watched: {type(error).__name__}: {error}", flush=True)
                return
            print(f"{workers} workers, {tasks:,} tasks at work", flush=True)

    thread = threading.Thread(target=watch, name="cluster-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)


def numeric(table: dd.DataFrame) -> list[str]:
    """Names of the columns with numbers of any kind; truth values are none."""
    is_number, is_truth = pd.api.types.is_numeric_dtype, pd.api.types.is_bool_dtype
    return [str(name) for name, dtype in table.dtypes.items() if is_number(dtype) and not is_truth(dtype)]


def numbers(part: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """These columns as floats, missing values as NaN: whatever they were, statistics are the same."""
    return pd.DataFrame({name: part[name].astype("float64") for name in columns}, index=part.index)


def with_times(part: pd.DataFrame) -> pd.DataFrame:
    times = part["timestamp"]
    if not pd.api.types.is_datetime64_any_dtype(times.dtype):
        times = pd.to_datetime(times, utc=True).dt.tz_localize(None)
    times = times.astype("datetime64[us]") if times.dt.tz is None else times
    fields = {"hour": times.dt.hour, "day_of_week": times.dt.dayofweek, "month": times.dt.month}
    return part.assign(timestamp=times, **{name: field.astype("Int8") for name, field in fields.items()})


def with_rolling(table: dd.DataFrame) -> dd.DataFrame:
    """Sorted by time; rows without a time are last and have no window."""
    missing = table["timestamp"].isna()
    timed = table[~missing].assign(value=lambda some: some["value"].astype("float64")).set_index("timestamp")
    window = timed["value"].rolling(WINDOW)
    timed = timed.assign(rolling_mean=window.mean(), rolling_std=window.std()).reset_index()
    untimed = table[missing].assign(value=lambda some: some["value"].astype("float64"))
    untimed = untimed.assign(rolling_mean=np.nan, rolling_std=np.nan)
    return dd.concat([timed, untimed[list(timed.columns)]])


def with_features(part: pd.DataFrame, of: dict[str, dict[str, Any]], order: list[str]) -> pd.DataFrame:
    """
    :param of: the statistics of each numeric column.
    :param order: all columns that were there before, in their order.
    """
    part = part[order]
    values = numbers(part, list(of))
    made: dict[str, pd.Series] = {}
    for name, statistics in of.items():
        x, reach = values[name], 1.5 * (statistics["q3"] - statistics["q1"])
        made[f"{name}_is_outlier"] = (x < statistics["q1"] - reach) | (x > statistics["q3"] + reach)
        made[f"{name}_log"] = np.log1p(x.where(x > 0))
    for name in list(of)[:SCORED]:
        constant = of[name]["min"] == of[name]["max"]  # its computed deviation may be a little more than 0
        made[f"{name}_zscore"] = (values[name] - of[name]["mean"]) / (1.0 if constant else of[name]["std"])
    return part.assign(**made)


def describe(table: dd.DataFrame, columns: list[str]) -> tuple[int, int, dict[str, dict[str, Any]]]:
    """Rows, bytes in memory, and the statistics of each numeric column: all in one pass over what the workers keep."""
    values = table.map_partitions(numbers, columns)
    # Whole numbers lie beside NaN here: `count` and the rest look only at what is there.
    asked = {name: getattr(values, name)() for name in ("min", "max", "mean", "std")} if columns else {}
    # Dask merges what each part says; the more each says, the nearer it comes.
    quantiles = values.quantile(list(np.linspace(0, 1, 401))) if columns else None
    size = table.map_partitions(lambda part: part.memory_usage(deep=True).sum(), meta=("bytes", "int64")).sum()
    rows, taken, found, between = dask.compute(table.shape[0], size, asked, quantiles)
    of: dict[str, dict[str, Any]] = {}
    for name in columns:
        of[name] = {what: float(series[name]) for what, series in found.items()}
        of[name] |= {"q1": float(between[name].iloc[100]), "q3": float(between[name].iloc[300])}
    return int(rows), int(taken), of


def run(source: str, target: str) -> None:
    began = time.monotonic()

    def say(message: str) -> None:
        print(f"{time.monotonic() - began:5.1f} s  {message}", flush=True)

    table = dd.read_parquet(source)
    columns, order = numeric(table), list(table.columns)
    if "timestamp" in table:
        table = table.map_partitions(with_times)
        order += ["hour", "day_of_week", "month"]
    table = table.persist()
    rows, size, of = describe(table, columns)
    say(f"{rows:,} rows of {len(order)} columns, {size / 2**20:,.0f} MiB in {table.npartitions} parts")
    if {"timestamp", "value"} <= set(order):
        table = with_rolling(table)
        order += ["rolling_mean", "rolling_std"]
    table = table.map_partitions(with_features, of, order)
    # A truth value is one byte, any other new column eight. So the size is known without computing anything twice.
    made = len(table.columns) - len(of) - len(order)
    parts = max(1, round((size + rows * (len(of) + 8 * made + 16)) / PART_BYTES))
    if parts < table.npartitions:
        table = table.repartition(npartitions=parts)
    say(f"writing {table.npartitions} files to {target}")
    write(table, target)
    summary = {"rows": rows, "files": table.npartitions, "columns": {name: tidy(it) for name, it in of.items()}}
    with fsspec.open(f"{target}/_summary.json", "w") as file:
        json.dump(summary, file, indent=2)
    say(f"{rows:,} rows written")


def write(table: dd.DataFrame, target: str) -> None:
    """A second run into the same place replaces the first, also where that had more files."""
    fs, path = fsspec.url_to_fs(target)
    fs.makedirs(path, exist_ok=True)
    for pattern in ("_summary.json", "part-*.parquet"):
        if stale := fs.glob(f"{path}/{pattern}"):
            fs.rm(stale)
    name = "part-{:05}.parquet".format
    table.to_parquet(target, write_index=False, compression="snappy", name_function=name)


def tidy(statistics: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: a column without a value has no statistics."""
    return {name: None if np.isnan(value) else value for name, value in statistics.items()}


class Parser(argparse.ArgumentParser):
    """Refuses in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return int(text)


def memory(text: str) -> str:
    try:
        enough = parse_bytes(text) >= 2**28
    except ValueError:
        enough = False
    if not enough:
        raise argparse.ArgumentTypeError(f"{text!r} is no memory like 8GiB, 256MiB or more")
    return text


def truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def main() -> None:
    results = os.environ.get("DASK_JOB_RESULTS") or None
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input-pattern", required=True, metavar="URI")
    parser.add_argument("--output-path", default=results, metavar="URI", help="[environment: DASK_JOB_RESULTS]")
    parser.add_argument("--min-workers", type=count, default=2, metavar="N", help="[%(default)s]")
    parser.add_argument("--max-workers", type=count, default=10, metavar="N", help="[%(default)s]")
    parser.add_argument("--adaptive-scaling", type=truth, default=True, metavar="true|false", help="[true]")
    parser.add_argument("--worker-memory", type=memory, default="8GiB", metavar="SIZE", help="[%(default)s]")
    parser.add_argument("--worker-vcores", type=count, default=4, metavar="N", help="threads of a worker [%(default)s]")
    options = parser.parse_args()
    fewest, most = options.min_workers, options.max_workers if options.adaptive_scaling else options.min_workers
    if most < fewest:
        parser.error(f"argument --max-workers: {most} is below --min-workers, {fewest}")
    if not options.output_path:
        parser.error("--output-path is missing, and so is the environment variable DASK_JOB_RESULTS")
    source, target = places(parser, options.input_pattern, options.output_path)
    workers = (fewest, most)
    with (
        dask.config.set(SETTINGS),
        cluster(workers, options.worker_vcores, options.worker_memory) as client,
        watched(client),
    ):
        run(source, target)


def places(parser: Parser, source: str, target: str) -> tuple[str, str]:
    """Input and output as absolute URIs, because workers may have another working directory."""
    found = []
    for name, text in (("--input-pattern", source), ("--output-path", target)):
        try:
            found.append(fsspec.url_to_fs(text))
        except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is not installed
            parser.error(f"argument {name}: {text!r}: {error}")
    (fs, path), (target_fs, folder) = found
    folder = folder.rstrip("/")
    files = fs.glob(path)
    if not files:
        parser.error(f"argument --input-pattern: there is no {source}")
    if type(fs) is type(target_fs) and folder in {path.rstrip("/"), *(fs._parent(file) for file in files)}:
        parser.error(f"argument --output-path: {target} is where the input lies")
    return fs.unstrip_protocol(path), target_fs.unstrip_protocol(folder)


if __name__ == "__main__":
    main()
