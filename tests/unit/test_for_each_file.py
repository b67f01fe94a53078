"""One job per file, as it is written in a DAG, and the steps around the jobs."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dask_provider import task_groups
from dask_provider._compat import AirflowFailException, AirflowSkipException
from dask_provider.clusters import LocalCluster
from dask_provider.errors import InvalidInput
from dask_provider.operators import DaskJobOperator, KubernetesJobOperator, files
from dask_provider.operators.files import FindFilesOperator, SumUpFilesOperator
from dask_provider.operators.following import owner_of_file
from dask_provider.publish.files import UNFINISHED
from dask_provider.task_groups import dask_cluster, for_each_file

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

JOB: dict[str, Any] = {"image": "acme/etl:1", "cmd": ["python", "-m", "etl", "{input}", "{output}"]}


def dag() -> Any:
    return DAG("lake", schedule=None, start_date=datetime(2024, 1, 1))


def written(**fields: Any) -> Any:
    with dag() as lake:
        for_each_file("etl", **{"inputs": "/in/*.csv", "output": "/out/{stem}.parquet", **JOB, **fields})
    return lake


def test_three_steps_and_what_is_around_them() -> None:
    with dag() as lake:
        before, after = (FindFilesOperator(task_id=name, inputs="/a/*", outputs="/b/{name}") for name in "ab")
        group = for_each_file("etl", inputs="/in/*.csv", output="/out/{stem}.parquet", parallelism=3, **JOB)
        before >> group >> after
        assert group.summary.operator.task_id == "etl.summary"
    run, summary = lake.get_task("etl.run"), lake.get_task("etl.summary")
    assert {task.task_id: set(task.upstream_task_ids) for task in lake.tasks} == {
        "a": set(),
        "etl.find": {"a"},
        "etl.run": {"etl.find"},
        "etl.summary": {"etl.find", "etl.run"},
        "b": {"etl.summary"},
    }
    assert (run.max_active_tis_per_dagrun, run.trigger_rule, summary.trigger_rule) == (3, "all_success", "all_done")
    assert run.operator_class is KubernetesJobOperator


def test_dask_jobs_in_a_block() -> None:
    with dag() as lake, dask_cluster("etl", LocalCluster()) as cluster:
        job: dict[str, Any] = {"cluster": cluster, "script": "/jobs/a.py", "arguments": ["{input}", "{output}"]}
        for_each_file("files", inputs="/in/*", output="/out/{name}", operator=DaskJobOperator, **job)
    assert lake.get_task("etl.files.run").operator_class is DaskJobOperator
    assert lake.get_task("etl.delete_cluster").upstream_task_ids >= {"etl.files.find", "etl.files.run"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cmd": ["python", "{input}"]}, "cmd, arguments, env or spec_schema"),
        ({"operator": FindFilesOperator}, "operator"),
        ({"parallelism": 0}, "parallelism"),
        ({"image": None}, "KubernetesJobOperator.image"),
        ({"operator": DaskJobOperator, "python_callable": print}, "python_callable"),
        ({"operator": DaskJobOperator, "script": "a.py", "arguments": ["{input}"], "cmd": ()}, "arguments"),
    ],
)
def test_what_is_refused_when_the_dag_is_parsed(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as no:
        written(**fields)
    assert no.value.field == field


def test_an_airflow_that_forgets_deferred_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_groups, "counts_deferred", lambda: False)
    assert written().get_task("etl.run").partial_kwargs["deferrable"] is False
    assert "deferrable" not in written(pool="jobs").get_task("etl.run").partial_kwargs
    with pytest.raises(InvalidInput, match="pool"):
        written(deferrable=True)
    monkeypatch.setattr(task_groups, "counts_deferred", lambda: True)
    assert written(deferrable=True).get_task("etl.run").partial_kwargs["deferrable"] is True


# --- the steps ---


class Xcoms:
    """A task instance with XComs, which all steps share."""

    dag_id, run_id = "lake", "run-1"

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.values[key] = value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.values.get(key)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for n in range(6):
        (tmp_path / "in" / f"{n}.csv").touch()
    for n in range(3):
        (tmp_path / "out" / f"{n}.parquet").touch()
    return tmp_path


def find(lake: Path, ti: Xcoms, **fields: Any) -> list[dict[str, Any]]:
    places = {"inputs": f"{lake}/in/*.csv", "outputs": f"{lake}/out/{{stem}}.parquet"}
    step = FindFilesOperator(task_id="find", **{**places, **fields})
    ti.values["return_value"] = step.execute({"ti": ti})
    found: list[dict[str, Any]] = ti.values["return_value"]
    return found


def sum_up(ti: Xcoms) -> dict[str, Any]:
    return SumUpFilesOperator(task_id="summary", find_id="find", run_id="run").execute({"ti": ti})


def test_only_what_is_missing(lake: Path, caplog: pytest.LogCaptureFixture) -> None:
    ti = Xcoms()
    assert [work["path"] for work in find(lake, ti)] == ["3.parquet", "4.parquet", "5.parquet"]
    assert ti.values["found"] == {"inputs": 6, "done_before": 3, "left": 0}
    for n in (3, 5):
        (lake / "out" / f"{n}.parquet").touch()
    name = owner_of_file("lake", "run-1", "run", f"{lake}/in/4.csv").name
    unfinished = lake / "out" / UNFINISHED / f"{name}-1"
    unfinished.mkdir(parents=True)
    (unfinished / "4.parquet").write_text("half")
    with pytest.raises(AirflowFailException, match=r"^3 done before, 2 ran, 1 failed: .*/in/4\.csv \(run\[1\]\)$"):
        sum_up(ti)
    told = ti.values["return_value"]
    assert told["failed_files"] == [{"input": f"{lake}/in/4.csv", "map_index": 1}]
    assert not (lake / "out" / UNFINISHED).exists()

    assert [work["path"] for work in find(lake, ti)] == ["4.parquet"]
    (lake / "out" / "4.parquet").touch()
    with caplog.at_level(logging.INFO):
        assert sum_up(ti)["failed"] == 0
    assert find(lake, ti) == []
    assert sum_up(ti) == {"inputs": 6, "done_before": 6, "left": 0, "ran": 0, "failed": 0, "failed_files": []}


def test_more_files_than_airflow_maps(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "conf", SimpleNamespace(getint=lambda *_, **__: 2))
    ti = Xcoms()
    with pytest.raises(AirflowFailException, match=r"max_map_length.*or set limit; 3 of 6 files"):
        find(lake, ti)
    with pytest.raises(AirflowFailException, match="limit: 3 is not possible"):
        find(lake, ti, limit=3)
    assert len(find(lake, ti, limit="1")) == 1
    assert ti.values["found"]["left"] == 2
    (lake / "out" / "3.parquet").touch()
    assert sum_up(ti)["left"] == 2, "what is left to a later run is no failure"
    assert len(find(lake, ti)) == 2, "what is done does not count"


def test_no_file_at_all(lake: Path) -> None:
    with pytest.raises(AirflowFailException, match="may_be_empty"):
        find(lake, Xcoms(), inputs=f"{lake}/in/*.json")
    assert find(lake, Xcoms(), inputs=f"{lake}/in/*.json", may_be_empty=True) == []


@pytest.mark.parametrize(("state", "error"), [("skipped", AirflowSkipException), ("failed", AirflowFailException)])
def test_unknown_is_never_success(state: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "task_state", lambda *_: state)
    with pytest.raises(error):
        sum_up(Xcoms())


def test_the_name_of_a_job_follows_its_file() -> None:
    """... and not the place in a list that is shorter the next time."""

    def name(index: int, uri: str, **fields: Any) -> str:
        file = {"input": uri, "outputs": "file:///out/", "path": "x"}
        step = KubernetesJobOperator(task_id="run", file=file, **{**JOB, **fields})
        step._context = {"ti": SimpleNamespace(dag_id="lake", run_id="r", task_id="run", map_index=index)}
        return step._owner().name

    assert name(0, "/in/january.csv") == name(7, "/in/january.csv")
    assert name(0, "/in/january.csv").startswith("dask-lake-january-")
    assert name(0, "/in/january.csv") != name(0, "/in/2024/january.csv")
    assert name(0, "/in/january.csv", name="preprocess") == name(0, "/in/january.csv")
