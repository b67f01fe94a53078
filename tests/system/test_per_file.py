"""One job per file under a real Airflow, on a real Kubernetes with the rights for plain jobs, and with Dask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dev.airflow_server import AirflowServer
from tests.integration.kubernetes.place import Namespace
from tests.integration.place import lines_of
from tests.system.kubernetes import Airflow
from tests.system.run import wait_until

WHOLE = "half and half"


@dataclass
class Lake:
    """Files in and out, and the Airflow that makes the one of the other."""

    server: AirflowServer
    place: Namespace
    folder: Path

    def inputs(self, **words: str) -> None:
        (self.folder / "in").mkdir(parents=True, exist_ok=True)
        for stem, word in words.items():
            (self.folder / "in" / f"{stem}.csv").write_text(word)

    def outputs(self) -> dict[str, str]:
        """All that is there, also what is hidden."""
        out = self.folder / "out"
        return {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}

    def started(self) -> list[str]:
        return sorted(lines_of(self.folder / "witness"))

    def times(self) -> list[str]:
        return lines_of(self.folder / "witness.times")

    def trigger(self, dag_id: str) -> str:
        return self.server.client.trigger(dag_id, {"lake": str(self.folder)})

    def end(self, dag_id: str, run_id: str) -> str:
        return self.server.client.wait_for_run(dag_id, run_id, timeout=400)

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        return {task.label: task.state for task in self.server.client.task_instances(dag_id, run_id)}

    def jobs(self) -> list[dict[str, Any]]:
        found = self.place.objects()
        return [made for key, made in found.items() if key.startswith("Job/")]


@dataclass
class Lakes:
    server: AirflowServer
    place: Namespace

    def lake(self, name: str) -> Lake:
        folder = self.place.shared / name
        folder.mkdir()
        self.place.server.kubectl("delete", "jobs", "--all", "-n", self.place.name)
        return Lake(self.server, self.place, folder)


@pytest.fixture(scope="module")
def lakes(kubernetes_airflow: Airflow) -> Lakes:
    return Lakes(kubernetes_airflow.server, kubernetes_airflow.plain)


@pytest.mark.parametrize("mode", [pytest.param("running", marks=pytest.mark.whole), "deferred"])
def test_only_the_rest_is_done(lakes: Lakes, mode: str) -> None:
    lake, dag_id = lakes.lake(mode), f"per_file_{mode}"
    client = lake.server.client
    lake.inputs(a="1", b="not alone", c="broken", d="long", e="long")
    (lake.folder / "out").mkdir()
    (lake.folder / "out" / "a.txt").write_text("of last week")

    run_id = lake.trigger(dag_id)
    assert lake.end(dag_id, run_id) == "failed"
    assert lake.outputs() == {"a.txt": "of last week", "b.txt": WHOLE, "d.txt": WHOLE, "e.txt": WHOLE}
    assert lake.started() == ["b.csv", "c.csv", "d.csv", "e.csv"]
    told = client.xcom(dag_id, run_id, "etl.summary")
    failed = {"input": f"{lake.folder}/in/c.csv", "map_index": 1}
    counts = {"inputs": 5, "done_before": 1, "ran": 3, "failed": 1, "left": 0}
    assert told == {**counts, "failed_files": [failed]}
    summary = client.task_log(dag_id, run_id, "etl.summary")
    assert f"1 done before, 3 ran, 1 failed: {failed['input']} (etl.run[1])" in summary
    log = client.task_log(dag_id, run_id, "etl.run", map_index=1)
    assert re.search(r"job dask-per-file-\w+-c-\w+-1 failed: its container ended with exit code 1", log), log
    assert log.rindex("exit code 1") < log.rindex("    this is no table"), "the reason, then the end of its output"
    assert log.count("\nthe word is broken\n") == 1, log
    assert most_at_once(lake.times()) == 2

    # The same run again: the list is shorter, so another file is the first.
    lake.inputs(c="5")
    client.clear(dag_id, run_id)
    client.wait_for_run(dag_id, run_id, ["running"])
    assert lake.end(dag_id, run_id) == "success", lake.states(dag_id, run_id)
    assert lake.outputs()["c.txt"] == WHOLE
    assert lake.started() == ["b.csv", "c.csv", "c.csv", "d.csv", "e.csv"]
    assert client.xcom(dag_id, run_id, "etl.summary")["done_before"] == 4
    assert "4 done before, 1 ran, 0 failed" in client.task_log(dag_id, run_id, "etl.summary")

    later = lake.trigger(dag_id)
    assert lake.end(dag_id, later) == "success"
    assert lake.states(dag_id, later) == {"etl.find": "success", "etl.run": "skipped", "etl.summary": "success"}
    assert len(lake.started()) == 5


@pytest.mark.parametrize("mode", ["running", "deferred"])
def test_a_job_ends_with_its_task(lakes: Lakes, mode: str) -> None:
    lake, dag_id = lakes.lake(f"ended-{mode}"), f"per_file_{mode}"
    lake.inputs(a="slow")
    run_id = lake.trigger(dag_id)
    wait_until(lake.started, "the job's program runs")
    lake.server.client.wait_for_task(dag_id, run_id, "etl.run", [mode], 0)
    wait_until(
        lambda: mode == "running" or "waits on" in lake.server.client.task_log(dag_id, run_id, "etl.run", map_index=0),
        "the triggerer has it",
    )
    lake.server.client.set_task_state(dag_id, run_id, "etl.run", "failed", 0)
    assert lake.end(dag_id, run_id) == "failed"
    wait_until(lambda: all(job["status"].get("failed") for job in lake.jobs()), "the job has ended", 60)
    assert (len(lake.jobs()), lake.outputs()) == (1, {})


def test_one_dask_job_per_file(lakes: Lakes) -> None:
    lake = lakes.lake("dask")
    lake.inputs(a="1", b="broken")
    run_id = lake.trigger("per_file_dask")
    assert lake.end("per_file_dask", run_id) == "failed"
    assert lake.outputs() == {"a.txt": WHOLE}
    told = lake.server.client.xcom("per_file_dask", run_id, "etl.files.summary")
    assert (told["ran"], told["failed"]) == (1, 1)


def test_preprocess_files(lakes: Lakes) -> None:
    lake = lakes.lake("preprocess")
    lake.inputs(jan="Day, Carrier Name\n1, UA \n1,UA\n\n2,\n", feb='Day,Carrier\n1,"UA\n')
    paths = {"input": f"{lake.folder}/in", "output": f"{lake.folder}/out"}
    run_id = lake.server.client.trigger("preprocess_files", {**paths, "namespace": lake.place.name})
    assert lake.end("preprocess_files", run_id) == "failed"
    (path,) = (lake.folder / "out").iterdir()
    table = pd.read_parquet(path)
    assert (path.name, list(table.columns), len(table)) == ("jan.parquet", ["day", "carrier_name"], 2)
    assert "jan.csv: 3 rows, 2 kept" in lake.server.client.task_log(
        "preprocess_files", run_id, "preprocess.run", map_index=1
    )


def most_at_once(times: list[str]) -> int:
    """How many programs ran at a time; each notes when it begins and ends."""
    return max(accumulate(1 if what == "begins" else -1 for what in times))
