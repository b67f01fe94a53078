"""Statistics of a CSV table, and the same table with its numbers normalized. Plain Dask: it runs on any cluster.

python jobs/dask_yarn_example.py --input FILE_OR_PATTERN --output results.csv

Reads   one CSV file, or several with the same columns (gs://bucket/day-*.csv), also compressed ones
Writes  a name that ends in .csv (or .csv.gz) is one file, whole or absent; any other is a folder of part-….csv
        each numeric column has another beside it, COLUMN_normalized: (x - mean) / standard deviation, 0 where all
        values are equal, empty where x is
Prints  count, mean, deviation, least, quartiles (about) and most of each numeric column, and how many rows there are
        of each `category`, if there is such a column

The cluster is the one at DASK_SCHEDULER_ADDRESS, then the place has said how large it is. Without one it is made here,
of --n-workers with --worker-vcores and --worker-memory each: by dask-yarn where its configuration names an environment
(yarn.environment), else of processes of this machine.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NoReturn

import dask
import dask.dataframe as dd
import fsspec
import pandas as pd
from dask.utils import parse_bytes
from distributed import Client, LocalCluster


@contextmanager
def cluster(n_workers: int, vcores: int, memory: str) -> Iterator[Client]:
    """A client of the cluster that is given, or of one that ends with the block."""
    with ExitStack() as stack:
        if dask.config.get("scheduler-address", None):
            client = stack.enter_context(Client())
            print(f"the cluster at {client.scheduler.address} is as its place made it", flush=True)
        else:
            if dask.config.get("yarn.environment", None):
                from dask_yarn import YarnCluster

                made = YarnCluster(n_workers=n_workers, worker_vcores=vcores, worker_memory=memory, name="example")
            else:
                made = LocalCluster(n_workers=n_workers, threads_per_worker=vcores, memory_limit=memory)
            client = stack.enter_context(Client(stack.enter_context(made)))
            client.wait_for_workers(1, timeout=600)
        yield client


def read(source: str) -> dd.DataFrame:
    """All rows, kept by the workers: everything below needs them more than once."""
    packed = not source.endswith(".csv")  # a compressed file cannot be read from its middle
    # Arrow's types have a missing value of their own: a column of whole numbers stays one.
    table = dd.read_csv(source, dtype_backend="pyarrow", blocksize=None if packed else "64MiB")
    return table.persist()


def is_numeric(dtype: object) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def normalize(part: pd.DataFrame, statistics: pd.DataFrame) -> pd.DataFrame:
    for name, of in statistics.items():
        constant = of["min"] == of["max"]  # its computed deviation may be a little more than 0
        part = part.assign(**{f"{name}_normalized": (part[name] - of["mean"]) / (1.0 if constant else of["std"])})
    return part


def run(source: str, target: str) -> None:
    table = read(source)
    columns = [name for name, dtype in table.dtypes.items() if is_numeric(dtype)]
    wanted = [table[columns].describe()] if columns else []
    if "category" in table:
        wanted.append(table["category"].value_counts())
    found = list(dask.compute(table.shape[0], *wanted))
    print(f"{found[0]:,} rows of {len(table.columns)} columns, {len(columns)} of them numeric", flush=True)
    if columns:
        statistics = found[1].astype("float64")
        print(statistics.to_string(), flush=True)
        table = table.map_partitions(normalize, statistics)
    if "category" in table:
        print(found[-1].to_string(), flush=True)
    write(table, target)


def write(table: dd.DataFrame, target: str) -> None:
    """One file, written here from parts in their order; or a folder, written by the workers."""
    fs, path = fsspec.url_to_fs(target)
    if not target.endswith((".csv", ".csv.gz")):
        fs.makedirs(path, exist_ok=True)
        if stale := fs.glob(f"{path.rstrip('/')}/part-*.csv"):  # of a run before, which may have had more
            fs.rm(stale)
        table.to_csv(f"{target.rstrip('/')}/part-*.csv", index=False, name_function="{:05}".format)
        print(f"{table.npartitions} files written to {target}", flush=True)
        return
    fs.makedirs(fs._parent(path), exist_ok=True)
    with fs.transaction, fsspec.core.OpenFile(fs, path, "wt", compression="infer", newline="") as file:
        for number, part in enumerate(table.partitions):
            part.compute().to_csv(file, index=False, header=number == 0)
    print(f"written to {target}", flush=True)


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
        raise argparse.ArgumentTypeError(f"{text!r} is no memory like 4GiB, 256MiB or more")
    return text


def main() -> None:
    results = os.environ.get("DASK_JOB_RESULTS") or None
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, metavar="URI")
    parser.add_argument("--output", default=results, metavar="URI", help="[environment: DASK_JOB_RESULTS]")
    parser.add_argument("--worker-memory", type=memory, default="4GiB", metavar="SIZE", help="[%(default)s]")
    parser.add_argument("--worker-vcores", type=count, default=2, metavar="N", help="threads of a worker [%(default)s]")
    parser.add_argument("--n-workers", type=count, default=4, metavar="N", help="[%(default)s]")
    options = parser.parse_args()
    if not options.output:
        parser.error("--output is missing, and so is the environment variable DASK_JOB_RESULTS")
    # Absolute, because workers may have another working directory.
    ends = []
    for name in ("input", "output"):
        try:
            fs, path = fsspec.url_to_fs(getattr(options, name))
        except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is not installed
            parser.error(f"argument --{name}: {getattr(options, name)!r}: {error}")
        ends.append(fs.unstrip_protocol(path))
        if name == "input" and not fs.glob(path):
            parser.error(f"argument --input: there is no {options.input}")
    with cluster(options.n_workers, options.worker_vcores, options.worker_memory):
        run(*ends)


if __name__ == "__main__":
    main()
