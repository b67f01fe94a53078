"""The DAGs for Dataproc under a real Airflow: machines of an emulator, real Dask on them, a GCS between."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from dask_provider.triggers.base import WAITING

from tests.system.calm import kill
from tests.system.dataproc import BUCKET, FILESTORE, Airflow, DataprocRun, Triggered, dataproc_airflow
from tests.system.run import wait_until

pytest_plugins = ["tests.servers.gcs"]
__all__ = ["dataproc_airflow"]

EPHEMERAL, AUTOSCALE = "dask_dataproc_ephemeral", "dask_dataproc_autoscale"
#: said by a retry
ADOPTED = "goes on, an earlier try started it"


@dataclass
class Begun:
    """Runs that go side by side: most of each is waiting."""

    unset: Triggered
    ephemeral: Triggered
    autoscale: Triggered
    failed: DataprocRun
    broken: DataprocRun


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    random = np.random.default_rng(4)
    category = random.choice(["toys", "books"], 400)
    return pd.DataFrame({"order": range(400), "price": random.normal(20, 5, 400).round(2), "category": category})


@pytest.fixture(scope="module")
def begun(dataproc_airflow: Airflow, sample: pd.DataFrame) -> Begun:
    place, files = dataproc_airflow, dataproc_airflow.bucket
    files.pipe_file(f"{BUCKET}/data/sample_input.csv", sample.to_csv(index=False).encode())
    times = pd.Timestamp("2026-03-01") + pd.to_timedelta(range(400), "min").astype("timedelta64[us]")
    for part in range(2):
        table = sample.assign(timestamp=times)[part * 200 : part * 200 + 200]
        files.pipe_file(f"{BUCKET}/large-data/2026-03-01/{part}.parquet", table.to_parquet(index=False))
    unset = Triggered(place, EPHEMERAL)
    autoscale = Triggered(place, AUTOSCALE, logical_date="2026-03-02T00:00:00Z")
    failed = DataprocRun(place, "failed", "dataproc_once", "running", fail_times=9, seconds=4)
    broken = DataprocRun(place, "broken", "dataproc_broken")
    unset.end()
    place.set_variable("filestore_ip_address", FILESTORE)
    return Begun(unset, Triggered(place, EPHEMERAL), autoscale, failed, broken)


def test_an_initialization_action_fails(begun: Begun) -> None:
    run = begun.broken
    assert run.end() == "failed", run.states()
    assert run.states()["etl.create_cluster"] == "failed"
    log = run.log("etl.create_cluster")
    assert "no such package: dask-mll" in log, log
    assert "broken.sh" in log
    assert "diagnostic.tar.gz" in log, "what Dataproc itself has found"
    run.assert_gone()


def test_the_job_fails(begun: Begun) -> None:
    run = begun.failed
    assert run.end() == "failed", run.states()
    states = run.states()
    assert (states["etl.run"], states["etl.delete_cluster"]) == ("failed", "success")
    log = run.log("etl.run")
    assert "failed: exit code 1: ValueError: start 1 is meant to fail" in log, log
    assert log.rindex("exit code 1") < log.rindex("Traceback (most recent call last):"), "the reason comes first"
    assert "lines in all" in log, "the end of its output"
    assert (run.starts(), run.ends(), run.jobs()) == (1, 0, ["ERROR"])
    run.assert_gone()


def test_a_variable_is_not_set(begun: Begun) -> None:
    run = begun.unset
    assert run.end() == "failed"
    assert run.states()["etl.create_cluster"] == "failed"
    log = run.log("etl.create_cluster")
    assert "DataprocCluster: '{{ var.value.filestore_ip_address }}' is not possible; allowed: " in log, log
    assert "left to its lease" not in log, "nothing was made"
    assert run.until("etl.create_cluster", "failed").try_number == 1, "a retry would be told the same"
    assert run.clusters() == [], "refused before anything was made"


def test_ephemeral(begun: Begun, sample: pd.DataFrame) -> None:
    run = begun.ephemeral
    assert run.end() == "success", run.log("etl.create_cluster") + run.log("etl.run")
    files = run.place.bucket
    (path,) = files.glob(f"{BUCKET}/output/*/results.csv")
    made = pd.read_csv(io.BytesIO(files.cat_file(path)))
    pd.testing.assert_frame_equal(made[list(sample)], sample)
    for name in ("order", "price"):
        scores = (sample[name] - sample[name].mean()) / sample[name].std()
        np.testing.assert_allclose(made[f"{name}_normalized"], scores, rtol=1e-9, atol=1e-9)
    assert "400 rows of 3 columns, 2 of them numeric" in run.log("etl.run")
    assert run.jobs() == ["DONE"]
    run.assert_gone()


def test_autoscale(begun: Begun, sample: pd.DataFrame) -> None:
    run = begun.autoscale
    assert run.end() == "success", run.log("etl.create_cluster") + run.log("etl.run")
    files, folder = run.place.bucket, f"{BUCKET}/processed/2026-03-01"
    summary = json.loads(files.cat_file(f"{folder}/_summary.json"))
    assert (summary["rows"], list(summary["columns"])) == (400, ["order", "price"])
    made = pd.read_parquet(io.BytesIO(files.cat_file(f"{folder}/part-00000.parquet")))
    pd.testing.assert_frame_equal(made[list(sample)], sample, check_dtype=False)
    scores = (sample["price"] - sample["price"].mean()) / sample["price"].std()
    np.testing.assert_allclose(made["price_zscore"], scores, rtol=1e-9, atol=1e-9)
    assert run.jobs() == ["DONE"]
    run.assert_gone()


def restart_triggerer(place: Airflow) -> None:
    place.server.kill("triggerer", tree=True)
    time.sleep(3)
    place.server.start_component("triggerer")


def test_emulator_triggerer_and_worker_killed(dataproc_airflow: Airflow) -> None:
    """While one job is followed by the triggerer, and another by a worker."""
    deferred = DataprocRun(dataproc_airflow, "deferred", "dataproc_deferred", gated=True)
    running = DataprocRun(dataproc_airflow, "running", "dataproc_running", "running", gated=True)
    for run in (deferred, running):
        run.underway()

    dataproc_airflow.dataproc.kill()
    time.sleep(3)
    assert deferred.states()["etl.run"] == "deferred"
    dataproc_airflow.dataproc.start_again()

    kill(running, "etl.run", "both")
    restart_triggerer(dataproc_airflow)
    deferred.until_said("etl.run", WAITING, times=2)
    running.until_said("etl.run", ADOPTED, try_number=2)
    wait_until(lambda: len(deferred.lines("etl.run")) > 3, "the output goes on")
    with dataproc_airflow.dataproc.settings(delays={"delete": 8}):
        for run in (deferred, running):
            run.gate.touch()
        deferred.until("etl.delete_cluster", "deferred")
        for run in (deferred, running):
            assert run.end() == "success", run.states()
            assert (run.starts(), run.ends(), run.jobs()) == (1, 1, ["DONE"]), "neither run twice nor lost"
            run.assert_gone()
    for run in (deferred, running):
        assert "nothing is left of it, after " in run.log("etl.delete_cluster")
    assert deferred.until("etl.run", "success").try_number == 1
    # What the killed one had not noted comes twice.
    assert sorted(set(deferred.lines("etl.run"))) == sorted(deferred.counted("etl.run")), "nothing is missing"
    assert running.lines("etl.run", 2) == running.counted("etl.run"), "the whole log is shown by the retry"


@pytest.mark.whole
def test_killed_while_clusters_are_made_and_while_one_goes(dataproc_airflow: Airflow) -> None:
    """The worker's processes, and the triggerer of another run."""
    place = dataproc_airflow
    with place.dataproc.settings(delays={"create": 45, "delete": 75}):
        deferred = DataprocRun(place, "create-deferred", "dataproc_deferred")
        running = DataprocRun(place, "create-running", "dataproc_running", "running")
        for run in (deferred, running):
            run.until("etl.create_cluster", run.mode)
            run.until_followed("etl.create_cluster", run.mode)
            run.until_said("etl.create_cluster", "the cluster is CREATING")
        made = {run.run_id: run.clusters() for run in (deferred, running)}
        uids = {each["clusterUuid"] for each in place.get("clusters")}
        kill(running, "etl.create_cluster", "both")
        restart_triggerer(place)
        running.until_said("etl.create_cluster", "uid", try_number=2)
        deferred.until("etl.delete_cluster", "deferred")
        deferred.until_followed("etl.delete_cluster", "deferred")
        restart_triggerer(place)
        deferred.until_said("etl.delete_cluster", WAITING, times=2)
        running.until_said("etl.delete_cluster", ": deleting")
        kill(running, "etl.delete_cluster", "both")
        running.until_said("etl.delete_cluster", ": deleting", try_number=2)
    for run in (deferred, running):
        assert run.end() == "success", run.states()
        handle = run.xcom("etl.create_cluster")
        assert ([handle["name"]], handle["uid"] in uids) == (made[run.run_id], True), "the cluster that was being made"
        assert (run.starts(), run.ends(), run.jobs()) == (1, 1, ["DONE"])
        run.assert_gone()
