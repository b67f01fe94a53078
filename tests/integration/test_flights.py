"""The numbers of the demo's job against plain pandas over the same input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from distributed import LocalCluster

from dev.flights_data import unpack

SCRIPT = Path(__file__).parents[2] / "jobs" / "flights.py"

# A week with rain, gusts and cancellations, and with a day on which most flights have no weather row.
FIRST_DAY, DAYS = "2013-12-25", 7


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("flights input")
    assert unpack(lake)
    assert not unpack(lake), "complete, so nothing was to be done"
    return lake


def run_job(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def results(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the job leaves in DASK_JOB_RESULTS, started twice: the second run replaces all of the first."""
    results = tmp_path_factory.mktemp("results")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        environment = {"DASK_SCHEDULER_ADDRESS": cluster.scheduler_address, "DASK_JOB_RESULTS": f"{results}/"}
        for day, days in (("2013-07-01", 32), (FIRST_DAY, DAYS)):
            job = run_job("--input", lake, "--day", day, "--days", days, **environment)
            assert job.returncode == 0, job.stdout + job.stderr
    assert f"reading {DAYS} days" in job.stdout
    return results


@pytest.fixture(scope="module")
def flights(lake: Path) -> pd.DataFrame:
    days = pd.date_range(FIRST_DAY, periods=DAYS).strftime("%Y-%m-%d")
    flights = pd.concat(pd.read_csv(lake / f"flights/day={day}/flights.csv").assign(folder=day) for day in days)
    assert (flights["folder"] == pd.to_datetime(flights[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")).all()
    return flights


def expect(results: Path, table: str, expected: pd.DataFrame, key: list[str]) -> None:
    actual = pd.read_parquet(results / table)
    assert list(actual) == list(expected)
    assert actual[key].equals(actual[key].sort_values(key, ignore_index=True)), "in order"
    expected = expected.sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(actual, expected, check_dtype=False, rtol=1e-12)


def test_daily(results: Path, flights: pd.DataFrame) -> None:
    rows = [
        {
            "day": pd.Timestamp(day),
            "origin": origin,
            "flights": len(group),
            "cancelled": group["dep_time"].isna().sum(),
            "mean_dep_delay": group["dep_delay"].mean(),
            "median_dep_delay": group["dep_delay"].median(),
            "p95_dep_delay": group["dep_delay"].quantile(0.95),
            "mean_arr_delay": group["arr_delay"].mean(),
            "median_arr_delay": group["arr_delay"].median(),
            "p95_arr_delay": group["arr_delay"].quantile(0.95),
        }
        for (day, origin), group in flights.groupby(["folder", "origin"])
    ]
    assert len(rows) == 3 * DAYS
    expect(results, "daily", pd.DataFrame(rows), ["day", "origin"])


def test_carriers(results: Path, lake: Path, flights: pd.DataFrame) -> None:
    names = pd.read_csv(lake / "airlines.csv", index_col="carrier")["name"]
    rows = []
    for carrier, group in flights.groupby("carrier"):
        known = group["arr_delay"].dropna()
        rows.append(
            {
                "carrier": carrier,
                "name": names[carrier],
                "flights": len(group),
                "cancelled": group["dep_time"].isna().sum(),
                "mean_arr_delay": known.mean(),
                "share_delayed_15": (known > 15).sum() / len(known),
            }
        )
    expect(results, "carriers", pd.DataFrame(rows), ["carrier"])


def test_weather(results: Path, lake: Path, flights: pd.DataFrame) -> None:
    weather = pd.read_csv(lake / "weather.csv").set_index(["origin", "time_hour"])
    planes = pd.read_csv(lake / "planes.csv").set_index("tailnum")

    def visibility(miles: float) -> str:
        if pd.isna(miles):
            return "unknown"
        return "below 3 mi" if miles < 3 else "3 to 5 mi" if miles < 6 else "6 mi and more"

    def wind(mph: float) -> str:
        if pd.isna(mph) or mph >= 200:
            return "unknown"
        return "below 8 mph" if mph < 8 else "8 to 18 mph" if mph < 19 else "19 mph and more"

    at_departure = weather.reindex(pd.MultiIndex.from_frame(flights[["origin", "time_hour"]]))
    of_plane = planes.reindex(flights["tailnum"])
    flights = flights.assign(
        visibility=at_departure["visib"].map(visibility, na_action=None).to_numpy(),
        wind=at_departure["wind_speed"].map(wind, na_action=None).to_numpy(),
        plane_age=flights["year"].to_numpy() - of_plane["year"].to_numpy(),
        seats=of_plane["seats"].to_numpy(),
    )
    rows = [
        {
            "visibility": classes[0],
            "wind": classes[1],
            "flights": len(group),
            "cancelled": group["dep_time"].isna().sum(),
            "mean_dep_delay": group["dep_delay"].mean(),
            "mean_arr_delay": group["arr_delay"].mean(),
            "mean_plane_age": group["plane_age"].mean(),
            "mean_seats": group["seats"].mean(),
        }
        for classes, group in flights.groupby(["visibility", "wind"])
    ]
    assert {row["visibility"] for row in rows} == {"below 3 mi", "3 to 5 mi", "6 mi and more", "unknown"}
    assert {row["wind"] for row in rows} == {"below 8 mph", "8 to 18 mph", "19 mph and more", "unknown"}
    expect(results, "weather", pd.DataFrame(rows), ["visibility", "wind"])


def test_summary(results: Path, flights: pd.DataFrame) -> None:
    summary = json.loads((results / "summary.json").read_text())
    assert summary == {
        "flights": len(flights),
        "cancelled": flights["dep_time"].isna().sum(),
        "first_day": "2013-12-25",
        "last_day": "2013-12-31",
        "mean_arr_delay": pytest.approx(flights["arr_delay"].mean(), rel=1e-12),
    }


def test_by_hand_without_a_cluster(lake: Path, tmp_path: Path) -> None:
    job = run_job("--input", lake, "--output", tmp_path / "out")
    assert job.returncode == 0, job.stdout + job.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["flights"] == 842


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--day", "2013-12-31", "--days", "3"], "no flights of 2014-01-01 and 1 more days in file://{lake}/flights"),
        (["--day", "2013-02-30"], "argument --day: '2013-02-30' is not a day like 2013-01-31"),
    ],
)
def test_bad_arguments_are_one_line(lake: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    job = run_job("--input", lake, "--output", tmp_path / "out", *arguments)
    assert job.returncode == 2
    assert job.stderr == f"flights.py: {message.format(lake=lake)}\n"
    assert job.stdout == ""
    assert not (tmp_path / "out").exists()
