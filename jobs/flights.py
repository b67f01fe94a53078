"""Delays of the flights from New York by day, carrier and weather. Plain Dask: it runs on any cluster, or by hand.

python jobs/flights.py --input DIR_OR_URI --output DIR_OR_URI --day 2013-01-01 --days 31

Reads   flights/day=2013-01-01/flights.csv (one folder a day), weather.csv, planes.csv, airlines.csv
Writes  daily/        per day and origin: flights, cancelled, mean, median and 95th percentile of both delays
        carriers/     per carrier: name, flights, cancelled, mean arrival delay, share more than 15 minutes late
        weather/      per visibility and wind class: flights, cancelled, mean delays, age and seats of the planes
        summary.json  the totals; written last

Delays are in minutes, early is negative. A flight without a departure time was cancelled. The share of late flights is
among those whose arrival delay is known.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import date, timedelta
from math import ceil, inf, isnan
from typing import NoReturn

import dask
import dask.dataframe as dd
import fsspec
import pandas as pd
from distributed import Client

TEXT = "string[pyarrow]"
FLIGHTS = {
    "origin": TEXT,
    "carrier": TEXT,
    "tailnum": TEXT,
    "time_hour": TEXT,
    "dep_time": "float64",
    "dep_delay": "float64",
    "arr_delay": "float64",
}
# `time_hour` is UTC and has one row an origin; local year, month, day and hour have two where summer time ends.
WEATHER = {"origin": TEXT, "time_hour": TEXT, "visib": "float64", "wind_speed": "float64"}
PLANES = {"tailnum": TEXT, "year": "float64", "seats": "float64"}
AIRLINES = {"carrier": TEXT, "name": TEXT}

# Lower bounds of the classes. Visibility in miles, as pilots divide it: instruments needed, marginal, good.
VISIBILITY = {0: "below 3 mi", 3: "3 to 5 mi", 6: "6 mi and more"}
# Wind in mph, after Beaufort: 0 to 2, 3 and 4, 5 and more. From 200 it is an error (the file has an hour of 1,048).
WIND = {0: "below 8 mph", 8: "8 to 18 mph", 19: "19 mph and more", 200: "unknown"}

DAYS_PER_FILE = 31


def read_table(uri: str, dtypes: dict[str, str], key: list[str]) -> pd.DataFrame:
    """A small table with one row a key, so that no join with it multiplies flights."""
    with fsspec.open(uri, "rb") as file:
        return pd.read_csv(file, usecols=list(dtypes), dtype=dtypes)[list(dtypes)].drop_duplicates(key)


def read_day(day: date, source: str) -> pd.DataFrame:
    with fsspec.open(f"{source}/flights/day={day}/flights.csv", "rb") as file:
        flights = pd.read_csv(file, usecols=list(FLIGHTS), dtype=FLIGHTS)[list(FLIGHTS)]
    return flights.assign(
        day=pd.Series(pd.Timestamp(day), flights.index, "datetime64[us]"),
        cancelled=flights["dep_time"].isna(),
        late=flights["arr_delay"].gt(15).astype("float64").where(flights["arr_delay"].notna()),
    )


def classify(joined: pd.DataFrame) -> pd.DataFrame:
    """Weather as classes ("unknown" without a weather row) and the plane's age in years on the day of the flight."""
    return joined.assign(
        visibility=_classes(joined["visib"], VISIBILITY),
        wind=_classes(joined["wind_speed"], WIND),
        plane_age=joined["day"].dt.year - joined["plane_year"],
    ).drop(columns=["visib", "wind_speed", "plane_year", "dep_time", "time_hour", "tailnum"])


def _classes(values: pd.Series, lower_bounds: dict[int, str]) -> pd.Series:
    classes = pd.cut(values, [*lower_bounds, inf], right=False, labels=list(lower_bounds.values()))
    return classes.astype(TEXT).fillna("unknown")


def table(uri: str, dtypes: dict[str, str], key: list[str]) -> dd.DataFrame:
    return dd.from_map(read_table, [uri], dtypes=dtypes, key=key)


def join(source: str, days: list[date]) -> dd.DataFrame:
    """Every flight of the days with its weather and its plane, one partition a day."""
    flights = dd.from_map(read_day, days, source=source)
    weather = table(f"{source}/weather.csv", WEATHER, ["origin", "time_hour"])
    planes = table(f"{source}/planes.csv", PLANES, ["tailnum"]).rename(columns={"year": "plane_year"})
    joined = flights.merge(weather, on=["origin", "time_hour"], how="left").merge(planes, on="tailnum", how="left")
    return joined.map_partitions(classify)


def by_day(flights: pd.DataFrame) -> pd.DataFrame:
    """The rows of `daily/`. Exact quantiles, because a day lies in one partition."""

    def p95(delays: pd.Series) -> float:
        return delays.quantile(0.95)

    delays = {
        f"{name}_{delay}": (delay, how)
        for delay in ("dep_delay", "arr_delay")
        for name, how in (("mean", "mean"), ("median", "median"), ("p95", p95))
    }
    counts = {"flights": ("cancelled", "size"), "cancelled": ("cancelled", "sum")}
    return flights.groupby(["day", "origin"]).agg(**counts, **delays).reset_index()


def by_carrier(flights: dd.DataFrame, airlines: dd.DataFrame) -> dd.DataFrame:
    carriers = flights.groupby("carrier", sort=True).agg(
        flights=("cancelled", "count"),
        cancelled=("cancelled", "sum"),
        mean_arr_delay=("arr_delay", "mean"),
        share_delayed_15=("late", "mean"),
        split_out=1,  # few groups: one file, where Dask would shuffle into many
    )
    return airlines.merge(carriers.reset_index(), on="carrier", how="right")


def by_weather(flights: dd.DataFrame) -> dd.DataFrame:
    classes = flights.groupby(["visibility", "wind"], sort=True).agg(
        flights=("cancelled", "count"),
        cancelled=("cancelled", "sum"),
        mean_dep_delay=("dep_delay", "mean"),
        mean_arr_delay=("arr_delay", "mean"),
        mean_plane_age=("plane_age", "mean"),
        mean_seats=("seats", "mean"),
        split_out=1,
    )
    return classes.reset_index()


def run(source: str, target: str, days: list[date]) -> None:
    started = time.monotonic()

    def say(message: str) -> None:
        print(f"{time.monotonic() - started:5.1f} s  {message}", flush=True)

    def write(frame: dd.DataFrame, name: str) -> None:
        # A second run into the same place replaces the first, also where that had more files.
        frame.to_parquet(
            f"{target}/{name}", write_index=False, overwrite=True, name_function="part-{:04}.parquet".format
        )
        say(f"{name} written")

    say(f"reading {len(days):,} days from {source}")
    flights = join(source, days).persist()  # a year is 40 MB; every table below is made from it
    count = len(flights)
    say(f"{count:,} flights joined with weather and planes")

    write(flights.map_partitions(by_day).repartition(npartitions=ceil(len(days) / DAYS_PER_FILE)), "daily")
    write(by_carrier(flights, table(f"{source}/airlines.csv", AIRLINES, ["carrier"])), "carriers")
    write(by_weather(flights), "weather")

    cancelled, mean = dask.compute(flights["cancelled"].sum(), flights["arr_delay"].mean())
    summary = {
        "flights": count,
        "cancelled": int(cancelled),
        "first_day": str(days[0]),
        "last_day": str(days[-1]),
        "mean_arr_delay": None if isnan(mean) else float(mean),
    }
    with fsspec.open(f"{target}/summary.json", "w") as file:
        json.dump(summary, file, indent=2)
    say(f"summary written to {target}: {count:,} flights, {cancelled:,} cancelled")


class Parser(argparse.ArgumentParser):
    """Refuses in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def uri(text: str) -> str:
    """Absolute, because workers may have another working directory."""
    try:
        fs, path = fsspec.url_to_fs(text)
    except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is not installed
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return fs.unstrip_protocol(path).rstrip("/")


def first_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day like 2013-01-31") from None


def number_of_days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return int(text)


def main() -> None:
    results = os.environ.get("DASK_JOB_RESULTS") or None
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=uri, required=True, metavar="URI")
    parser.add_argument("--output", type=uri, default=results, metavar="URI", help="[environment: DASK_JOB_RESULTS]")
    parser.add_argument("--day", type=first_day, default="2013-01-01", metavar="DATE", help="first day [%(default)s]")
    parser.add_argument("--days", type=number_of_days, default=1, metavar="N", help="how many [%(default)s]")
    arguments = parser.parse_args()
    source, target = arguments.input, arguments.output
    if not target:
        parser.error("--output is missing, and so is the environment variable DASK_JOB_RESULTS")

    days = [arguments.day + timedelta(days=n) for n in range(arguments.days)]
    fs, folder = fsspec.url_to_fs(f"{source}/flights")
    files = fs.find(folder)  # one request for all days
    present = {path.split("/")[-2] for path in files if path.endswith("/flights.csv")}
    if missing := [day for day in days if f"day={day}" not in present]:
        others = f" and {len(missing) - 1:,} more days" if missing[1:] else ""
        parser.error(f"no flights of {missing[0]}{others} in {source}/flights")

    with Client():  # the cluster at DASK_SCHEDULER_ADDRESS, or one made here
        run(source, target, days)


if __name__ == "__main__":
    main()
