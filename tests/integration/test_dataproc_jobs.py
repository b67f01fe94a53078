"""The numbers of the two jobs for Dataproc against plain pandas, on a cluster that is given and on one of their own."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from tests.servers.gcs import GCSServer

pytest_plugins = ["tests.servers.gcs"]

JOBS = Path(__file__).parents[2] / "jobs"
EXAMPLE, LARGE = JOBS / "dask_yarn_example.py", JOBS / "dask_large_scale_processing.py"
SMALL = ("--worker-memory", "512MiB", "--worker-vcores", "1")


def run_job(script: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=300)


def finished(script: Path, *arguments: object, **environment: str) -> str:
    job = run_job(script, *arguments, **environment)
    assert job.returncode == 0, job.stdout + job.stderr
    return job.stdout


def module_of(script: Path) -> Any:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def given() -> Iterator[dict[str, str]]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield {"DASK_SCHEDULER_ADDRESS": cluster.scheduler_address}


@pytest.fixture(scope="module")
def measurements() -> pd.DataFrame:
    """Every kind of number, missing ones, one without variance, and times that are no two the same."""
    random = np.random.default_rng(4)
    n = 4000
    minutes = random.permutation(n * 20)[:n]
    table = pd.DataFrame(
        {
            "station": random.choice(["north", "south"], n),
            "timestamp": pd.Timestamp("2024-02-20") + pd.to_timedelta(minutes, "min").astype("timedelta64[us]"),
            "value": random.normal(3, 10, n),
            "count": pd.array(random.integers(0, 9, n), "Int16"),
            "share": random.random(n).astype("float32"),
            "level": random.integers(-5, 200, n).astype("uint8"),
            "same": 0.1,
            "rate": random.exponential(2, n),
            "fine": random.random(n) > 0.5,
        }
    )
    table.loc[random.random(n) < 0.1, "value"] = np.nan
    table.loc[random.random(n) < 0.1, "count"] = pd.NA
    table.loc[[7, 2900], "timestamp"] = pd.NaT
    return table


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, measurements: pd.DataFrame) -> Path:
    lake = tmp_path_factory.mktemp("large data")
    for number, start in enumerate(range(0, len(measurements), 1000)):
        measurements[start : start + 1000].to_parquet(lake / f"{number}.parquet", index=False)
    return lake


@pytest.fixture(scope="module")
def processed(lake: Path, tmp_path_factory: pytest.TempPathFactory, given: dict[str, str]) -> Path:
    """What the large job leaves in DASK_JOB_RESULTS, where a run before had more files."""
    results = tmp_path_factory.mktemp("processed")
    (results / "part-00099.parquet").write_text("of a run before")
    (results / "somebody-else").write_text("is left alone")
    told = finished(LARGE, "--input-pattern", f"{lake}/*.parquet", **given, DASK_JOB_RESULTS=f"{results}/")
    assert "is as its place made it" in told
    assert sorted(os.listdir(results)) == ["_summary.json", "part-00000.parquet", "somebody-else"]
    return results


def test_large_scale_keeps_rows_columns_and_values(processed: Path, measurements: pd.DataFrame) -> None:
    made = pd.read_parquet(processed / "part-00000.parquet")
    assert list(made)[: len(measurements.columns)] == list(measurements)
    times = made["timestamp"].to_numpy()
    assert (np.diff(times[:-2]) > np.timedelta64(0)).all()
    assert np.isnat(times[-2:]).all()
    before = measurements.sort_values("timestamp", ignore_index=True, kind="stable")
    pd.testing.assert_frame_equal(made[list(before)], before, check_dtype=False)
    expected = {"hour": before["timestamp"].dt.hour, "day_of_week": before["timestamp"].dt.dayofweek}
    for name, field in {**expected, "month": before["timestamp"].dt.month}.items():
        pd.testing.assert_series_equal(made[name].astype("float64"), field.astype("float64"), check_names=False)
    window = before[:-2].set_index("timestamp")["value"].rolling("7D")
    for name, field in {"rolling_mean": window.mean(), "rolling_std": window.std()}.items():
        np.testing.assert_allclose(made[name].to_numpy()[:-2], field.to_numpy(), rtol=1e-9)
        assert made[name][-2:].isna().all()


def test_large_scale_numbers(processed: Path, measurements: pd.DataFrame) -> None:
    made = pd.read_parquet(processed / "part-00000.parquet")
    summary = json.loads((processed / "_summary.json").read_text())
    numeric = ["value", "count", "share", "level", "same", "rate"]
    assert (summary["rows"], summary["files"], list(summary["columns"])) == (4000, 1, numeric)
    assert {name for name in made if name.endswith("_zscore")} == {f"{name}_zscore" for name in numeric[:5]}
    assert {name for name in made if name.endswith("_log")} == {f"{name}_log" for name in numeric}
    for name in numeric:
        x, of = made[name].astype("float64"), summary["columns"][name]
        known = x.dropna()
        for quartile, share in (("q1", 0.25), ("q3", 0.75)):
            below, not_above = (known < of[quartile]).mean(), (known <= of[quartile]).mean()
            assert below - 0.005 <= share <= not_above + 0.005, name
        reach = 1.5 * (of["q3"] - of["q1"])
        outliers = (x < of["q1"] - reach) | (x > of["q3"] + reach)
        pd.testing.assert_series_equal(made[f"{name}_is_outlier"], outliers, check_names=False, check_dtype=False)
        logs = [np.log(1 + value) if value > 0 else np.nan for value in x]
        np.testing.assert_allclose(made[f"{name}_log"], logs, rtol=1e-12)
        if name in numeric[:5]:
            scores = x * 0 if name == "same" else (x - known.mean()) / known.std()
            np.testing.assert_allclose(made[f"{name}_zscore"], scores, rtol=1e-9, atol=1e-9)
    assert made["rate_is_outlier"].sum() > 100
    assert not made["same_is_outlier"].any()


def test_large_scale_without_times_on_workers_of_its_own(lake: Path, tmp_path: Path) -> None:
    few = pd.read_parquet(lake / "0.parquet")[["share", "station"]].assign(none=np.nan)
    few.to_parquet(tmp_path / "few.parquet")
    arguments = ["--input-pattern", tmp_path / "few.parquet", "--output-path", tmp_path / "a" / "b", *SMALL]
    finished(LARGE, *arguments, "--min-workers", 1, "--max-workers", 2)
    made = pd.read_parquet(tmp_path / "a" / "b")
    assert list(made)[:3] == ["share", "station", "none"]
    assert "hour" not in made
    assert made["none_zscore"].isna().all()
    assert json.loads((tmp_path / "a/b/_summary.json").read_text())["columns"]["none"]["mean"] is None


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files; the second has the first gap in a column of whole numbers."""
    folder = tmp_path_factory.mktemp("orders")
    random = np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "order": range(600),
            "price": random.normal(20, 5, 600).round(2),
            "pieces": pd.array(random.integers(1, 9, 600), "Int64"),
            "same": 0.1,
            "category": random.choice(["toys", "books", "tea, coffee"], 600),
        }
    )
    table.loc[450, "pieces"] = pd.NA
    table[:300].to_csv(folder / "day-1.csv", index=False)
    table[300:].to_csv(folder / "day-2.csv", index=False)
    return folder


@pytest.mark.parametrize("output", ["new/folder/results.csv", "results.csv.gz", "parts/"])
def test_example_numbers(orders: Path, tmp_path: Path, given: dict[str, str], output: str) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "part-00099.csv").write_text("of a run before")
    told = finished(EXAMPLE, "--input", f"{orders}/day-*.csv", "--output", f"{tmp_path}/{output}", **given)
    before = pd.concat([pd.read_csv(orders / f"day-{day}.csv") for day in (1, 2)], ignore_index=True)
    target = tmp_path / output
    files = sorted(target.iterdir()) if target.is_dir() else [target]
    assert [file.name for file in files] == (["part-00000.csv", "part-00001.csv"] if target.is_dir() else [target.name])
    made = pd.concat(map(pd.read_csv, files), ignore_index=True)
    pd.testing.assert_frame_equal(made[list(before)], before)
    content = files[0].read_bytes()
    lines = (gzip.decompress(content) if output.endswith("gz") else content).decode().splitlines()
    assert lines[0].startswith("order,price,pieces,same,category,order_normalized")
    assert lines[1].split(",")[2].isdecimal(), "a whole number, though others are missing"
    for name in ("order", "price", "pieces"):
        scores = (before[name] - before[name].mean()) / before[name].std()
        np.testing.assert_allclose(made[f"{name}_normalized"], scores, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(made["same_normalized"], 0, atol=1e-9)
    assert "600 rows of 5 columns, 4 of them numeric" in told
    means = re.search(r"^mean +(.*)$", told, re.MULTILINE)
    assert means
    np.testing.assert_allclose([float(text) for text in means[1].split()], before.mean(numeric_only=True), rtol=1e-5)
    for category, rows in before["category"].value_counts().items():
        assert re.search(rf"^{category} +{rows}$", told, re.MULTILINE)


def test_example_by_hand_without_a_cluster(orders: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("name\nAda\n")
    finished(EXAMPLE, "--input", tmp_path / "texts.csv", "--output", tmp_path / "out.csv", *SMALL, "--n-workers", 1)
    assert (tmp_path / "out.csv").read_text() == "name\nAda\n"


def test_both_in_a_bucket(gcs_server: GCSServer, orders: Path, lake: Path) -> None:
    bucket = f"gs://{gcs_server.make_bucket('jobs-of-tests')}"
    environment = {"STORAGE_EMULATOR_HOST": gcs_server.url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    fs = fsspec.filesystem("gs", endpoint_url=gcs_server.url, token="anon", skip_instance_cache=True)
    fs.put([str(orders / "day-1.csv"), str(lake / "1.parquet")], [f"{bucket}/in/day-1.csv", f"{bucket}/in/1.parquet"])
    results = f"{bucket}/output/2024-01-01/results.csv"
    finished(EXAMPLE, "--input", f"{bucket}/in/*.csv", "--output", results, *SMALL, "--n-workers", 1, **environment)
    with fs.open(results) as file:
        made, before = pd.read_csv(file), pd.read_csv(orders / "day-1.csv")
    pd.testing.assert_frame_equal(made[list(before)], before)
    arguments = ["--input-pattern", f"{bucket}/in/*.parquet", "--output-path", f"{bucket}/processed/2024-01-01/"]
    finished(LARGE, *arguments, *SMALL, "--adaptive-scaling", "false", "--min-workers", 1, **environment)
    found = [path.rpartition("/")[2] for path in fs.find(f"{bucket}/processed")]
    assert found == ["_summary.json", "part-00000.parquet"]
    with fs.open(f"{bucket}/processed/2024-01-01/part-00000.parquet") as file:
        assert len(pd.read_parquet(file)) == 1000


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (EXAMPLE, ["--input", "{lake}/x.csv"], "argument --input: there is no {lake}/x.csv"),
        (
            EXAMPLE,
            ["--input", "x", "--worker-memory", "much"],
            "argument --worker-memory: 'much' is no memory like 4GiB",
        ),
        (LARGE, ["--input-pattern", "{lake}/x*"], "argument --input-pattern: there is no {lake}/x*"),
        (LARGE, ["--input-pattern", "x", "--adaptive-scaling", "maybe"], "'maybe' is neither true nor false"),
        (
            LARGE,
            ["--input-pattern", "x", "--min-workers", "11"],
            "argument --max-workers: 10 is below --min-workers, 11",
        ),
        (LARGE, ["--input-pattern", "{lake}/*", "--output-path", "{lake}/"], "{lake}/ is where the input lies"),
    ],
)
def test_bad_arguments_are_one_line(
    lake: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), *(text.format(lake=lake) for text in arguments)])
    monkeypatch.setenv("DASK_JOB_RESULTS", str(tmp_path))
    with pytest.raises(SystemExit) as refused:
        module_of(script).main()
    assert refused.value.code == 2
    said, complained = capsys.readouterr()
    assert complained.startswith(f"{script.name}: ")
    assert message.format(lake=lake) in complained
    assert complained.count("\n") == 1
    assert said == ""


def test_large_scale_is_watched_from_the_client(given: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    job = module_of(LARGE)
    with Client(given["DASK_SCHEDULER_ADDRESS"]) as client:
        with job.watched(client, every=0.1):
            client.submit(time.sleep, 1, pure=False).result()
        assert "2 workers, 1 tasks at work" in capsys.readouterr().out
        assert not [thread for thread in threading.enumerate() if thread.name == "cluster-watch"]
        client.close()
        with job.watched(client, every=0.1):
            time.sleep(0.5)
    assert "the cluster is no longer watched: " in capsys.readouterr().out
