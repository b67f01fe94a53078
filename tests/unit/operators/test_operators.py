"""Operators as they are written in a DAG: what is refused at once, and what a dry run prints."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dask_provider.clusters import ExistingCluster, LocalCluster
from dask_provider.errors import InvalidInput
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.operators import (
    DaskCreateClusterOperator,
    DaskDeleteClusterOperator,
    DaskJobOperator,
    DaskReapClustersOperator,
    DaskScaleClusterOperator,
)
from dask_provider.operators.base import DaskOperator
from dask_provider.operators.sources import pickle_call, read_files, read_script
from dask_provider.owner import Attempt
from dask_provider.triggers.cluster import DaskClusterTrigger

try:
    from airflow.sdk import DAG
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow import DAG
    from airflow.exceptions import TaskDeferred


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__DASK__STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "work.py"
    path.write_text("print(1)")
    return str(path)


def in_dag(operator: Any, **fields: Any) -> Any:
    with DAG("flights", schedule=None, start_date=datetime(2024, 1, 1)):
        return operator(task_id="run", **fields)


HANDLE = {"place": "local", "name": "dask-x", "uid": "u", "owner": {}}


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ({}, None),
        ({"script": "a.py", "module": "a"}, ["script", "module"]),
        ({"module": "a", "python_callable": print}, ["module", "python_callable"]),
        ({"script": ""}, None),
    ],
)
def test_a_job_has_exactly_one_source(fields: dict[str, Any], given: object) -> None:
    with pytest.raises(
        InvalidInput, match=r"script, module, python_callable: .*allowed: exactly one of the three"
    ) as no:
        DaskJobOperator(task_id="run", cluster=LocalCluster(), **fields)
    assert no.value.value == given


@pytest.mark.parametrize("cluster", [None, "local", LocalCluster, HANDLE, 3])
def test_only_a_spec_can_be_created(cluster: object) -> None:
    with pytest.raises(InvalidInput, match=r"^cluster: .*a spec such as LocalCluster\(workers=2\)"):
        DaskCreateClusterOperator(task_id="create", cluster=cluster)


@pytest.mark.parametrize("cluster", [LocalCluster, 3, ["local"], object()])
def test_a_job_needs_a_handle_or_a_spec(cluster: object) -> None:
    with pytest.raises(InvalidInput, match=r"^cluster: "):
        DaskJobOperator(task_id="run", cluster=cluster, module="work")


def test_the_block_itself_is_no_cluster() -> None:
    """``with dask_cluster(...) as cluster`` gives the handle; the block's object is easily taken for it."""
    from dask_provider.task_groups import dask_cluster

    with DAG("flights", schedule=None, start_date=datetime(2024, 1, 1)):
        block = dask_cluster("etl", LocalCluster())
        with pytest.raises(InvalidInput, match=r"^cluster: "), block:
            DaskJobOperator(task_id="run", cluster=block, module="work")


@pytest.mark.parametrize("places", [[], ["local"], [LocalCluster(), None]])
def test_a_reaper_needs_places(places: list[Any]) -> None:
    with pytest.raises(InvalidInput, match=r"^places: "):
        DaskReapClustersOperator(task_id="reap", places=places)


@pytest.mark.parametrize("wait", [-1, "soon", True])
def test_what_is_no_time_to_wait(wait: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^wait: .*seconds above zero"):
        DaskDeleteClusterOperator(task_id="delete", cluster=HANDLE, wait=wait)


def test_specs_are_rendered_field_by_field_and_checked_again(state: Path) -> None:
    spec = LocalCluster(workers="{{ n }}", env={"DAY": "{{ ds }}"}, idle_timeout="{{ bad }}")
    task = in_dag(DaskCreateClusterOperator, cluster=spec)
    task._context = {"n": 3, "ds": "2024-01-01", "bad": "10 min"}
    rendered = task._rendered(task.cluster)
    assert (rendered.worker_range, rendered.env, rendered.idle_seconds) == ((3, 3), {"DAY": "2024-01-01"}, 600)
    task._context["bad"] = "soon"
    with pytest.raises(InvalidInput, match=r"^LocalCluster\.idle_timeout: 'soon'"):
        task._rendered(task.cluster)
    assert task.cluster == spec


def test_airflow_copies_an_operator_with_its_spec(state: Path) -> None:
    task = in_dag(DaskJobOperator, cluster=LocalCluster(workers=(1, 3)), module="work")
    twin = copy.deepcopy(task)
    assert twin.cluster == task.cluster
    assert twin.cluster is not None


# --- dry runs ---


def planned(task: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    task.dry_run()
    return json.loads(capsys.readouterr().out)


def test_dry_runs_print_what_would_happen_and_touch_nothing(
    state: Path, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = LocalCluster(workers=(1, 3), memory="1 GiB", env={"TOKEN": "hunter2"})
    create = planned(in_dag(DaskCreateClusterOperator, cluster=spec), capsys)["create"]
    assert (create["cluster.json"]["workers"], create["cluster.json"]["memory"]) == ([1, 3], 2**30)
    assert create["folder"].startswith(str(state))
    job = planned(in_dag(DaskJobOperator, cluster=spec, script=script, arguments=["--day", "{{ ds }}"]), capsys)
    assert job["submit"]["arguments"] == ["--day", "{{ ds }}"]
    assert job["submit"]["results"].startswith(f"file://{state}/staging/")
    assert planned(in_dag(DaskDeleteClusterOperator, cluster=HANDLE), capsys) == {"delete": HANDLE}
    scale = planned(in_dag(DaskScaleClusterOperator, cluster=HANDLE, workers=(2, 4)), capsys)
    assert scale["workers"] == [2, 4]
    reap = planned(in_dag(DaskReapClustersOperator, places=[spec]), capsys)
    assert reap["look at"] == ["LocalCluster(env={'TOKEN': '***'}, workers=(1, 3), memory='1 GiB')"]
    existing = planned(in_dag(DaskCreateClusterOperator, cluster=ExistingCluster(address="tcp://s:1")), capsys)
    assert existing == {"create": {"use": "tcp://s:1", "min_workers": 1}}
    assert not state.exists()


@pytest.mark.parametrize("operator", [DaskCreateClusterOperator, DaskJobOperator])
def test_dry_runs_of_templates_that_are_not_rendered(
    operator: Any, state: Path, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = LocalCluster(workers="{{ params.workers }}", env={"TOKEN": "hunter2"})
    program = {"script": script} if operator is DaskJobOperator else {}
    plan = json.dumps(planned(in_dag(operator, cluster=spec, **program), capsys))
    assert "{{ params.workers }}" in plan
    assert "hunter2" not in plan


def test_a_dry_run_shows_no_value_of_env(state: Path, script: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = LocalCluster(env={"TOKEN": "hunter2"})
    task = in_dag(DaskJobOperator, cluster=spec, script=script, env={"PASSWORD": "hunter3"}, retries=2)
    plan = json.dumps(planned(task, capsys))
    assert "hunter" not in plan
    assert "TOKEN" in plan
    assert "PASSWORD" in plan


# --- what a job is made of ---


def test_scripts_that_cannot_be_read(tmp_path: Path, script: str) -> None:
    (tmp_path / "empty.py").write_text(" \n")
    assert read_script(script, None) == ("work.py", b"print(1)")
    for uri, allowed in (
        (str(tmp_path / "none.py"), "exists"),
        (str(tmp_path / "empty.py"), "not empty"),
        (str(tmp_path / "work.txt"), "ends in .py"),
        ("nowhere://bucket/work.py", "another fsspec URI"),
    ):
        with pytest.raises(InvalidInput, match=allowed) as refused:
            read_script(uri, None)
        assert refused.value.field == "script"
        assert uri in str(refused.value)


def test_files_of_one_name_cannot_be_told_apart(tmp_path: Path, script: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "work.py").write_text("")
    assert read_files("files", [script], None) == {"work.py": b"print(1)"}
    with pytest.raises(InvalidInput, match=r"^files: .*work.py is there twice"):
        read_files("files", [script, str(tmp_path / "other" / "work.py")], None)


def test_functions_that_cannot_be_pickled() -> None:
    lock = threading.Lock()

    def waits() -> None:
        lock.acquire()

    with pytest.raises(InvalidInput, match=r"^python_callable: 'waits'.*cannot pickle"):
        pickle_call(waits, (), {})


def test_a_function_travels_without_its_module() -> None:
    call = pickle_call(test_deadlines, (), {})
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)[0].__name__)"
    done = subprocess.run([sys.executable, "-c", code], input=call, capture_output=True, check=True)
    assert done.stdout.strip() == b"test_deadlines"


# --- how long ---


class Instance:
    """A task instance that began at a known time."""

    try_number, max_tries = 2, 1
    start_date = datetime.fromisoformat("2024-01-01T00:00:00+00:00")


@pytest.mark.parametrize(("timeout", "deadline"), [(None, None), (timedelta(minutes=1), 1704067260.0)])
def test_deadlines(timeout: timedelta | None, deadline: float | None) -> None:
    task = in_dag(DaskDeleteClusterOperator, cluster=HANDLE, execution_timeout=timeout)
    task._context = {"ti": Instance()}
    assert task._deadline == deadline
    assert task._timed_out() == (deadline is not None)
    assert (task.attempt().started, task.attempt().deadline) == (1704067200.0, deadline)


@pytest.mark.parametrize(
    ("number", "after", "ours"),
    [
        (2, 0, True),
        (2, 3, True),  # its own, by the worker's clock
        (1, -60, True),  # what an older try has left, not yet adopted
        (3, -60, True),  # what a run has left that was deleted and made anew
        (3, 60, False),  # a newer try's
        (2, 60, False),  # that of the run made anew: this process is of the one that was deleted
    ],
)
def test_what_a_killed_try_may_end(number: int, after: float, ours: bool) -> None:
    task = in_dag(DaskDeleteClusterOperator, cluster=HANDLE)
    task._context = {"ti": Instance()}
    started = Instance.start_date.timestamp() + after
    job = {"job_id": "x", "location": "/", "results": "/", "manifest": "/"}
    assert task._is_ours(JobHandle(place="local", attempt=number, started=started, **job)) == ours
    assert task._is_ours(ClusterHandle.from_dict({**HANDLE, "attempt": number, "started": started})) == ours


class Waits(DaskOperator):
    """A step that does nothing but wait."""

    def work(self) -> None:
        self._defer(DaskClusterTrigger({}, self._key(), self._deadline), "over")

    def over(self, context: Any) -> Attempt:
        return self.attempt()


def test_a_try_began_when_it_began_also_after_a_deferral() -> None:
    """Airflow tells another start then, and after a clear that of the try before."""
    ids = {"dag_id": "flights", "run_id": "r", "task_id": "waits", "map_index": -1, "__module__": __name__}
    instance = type("Ours", (Instance,), ids)
    task = in_dag(Waits, execution_timeout=timedelta(minutes=1))
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": instance()})
    earlier = type("Earlier", (instance,), {"start_date": instance.start_date - timedelta(milliseconds=300)})
    back = in_dag(Waits, execution_timeout=timedelta(minutes=1))
    attempt = back.resume_execution("over", dict(deferred.value.kwargs), {"ti": earlier()})
    assert (attempt.started, attempt.deadline) == (1704067200.0, 1704067260.0)

    cleared = type("Cleared", (earlier,), {"try_number": 3})
    anew = in_dag(Waits, execution_timeout=timedelta(minutes=1))
    with pytest.raises(TaskDeferred):
        anew.resume_execution("over", dict(deferred.value.kwargs), {"ti": cleared()})
    assert time.time() - 60 < anew.attempt().started <= time.time()
