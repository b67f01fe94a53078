"""What a step that makes a cluster refuses for the steps that follow it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from dask_provider.clusters import LocalCluster
from dask_provider.errors import InvalidInput
from dask_provider.operators import DaskCreateClusterOperator, DaskJobOperator, DaskStoreResultsOperator
from dask_provider.operators.ahead import check_ahead

try:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG
    from airflow.operators.empty import EmptyOperator

CONTEXT = {"ds": "2024-01-01"}
Makes = Callable[[Path, Any], Any]


def job(cluster: Any, task_id: str = "run", **source: Any) -> Any:
    return DaskJobOperator(task_id=task_id, cluster=cluster, **(source or {"module": "work"}))


def store(source: Any, destination: str, **more: Any) -> Any:
    return DaskStoreResultsOperator(task_id="store", source=source.output, destination=destination, **more)


def asked(folder: Path, make: Makes) -> None:
    """``make`` gets a folder that holds ``file.py`` alone, and the create step."""
    (folder / "file.py").touch()
    with DAG("flights", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
        create = DaskCreateClusterOperator(task_id="create", cluster=LocalCluster())
        make(folder, create)
    check_ahead(dag.get_task("own" if dag.has_task("own") else "create"), CONTEXT)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f, create: job(create.output, script=f"{f}/{{{{ ds }}}}.py"), r"^script: .*2024-01-01\.py"),
        (lambda f, create: job(create.output, module="m", files=[f"{f}/none"]), r"^files: .*none"),
        (
            lambda f, create: store(job(create.output), f"{f}/file.py/{{{{ ds }}}}/"),
            "^destination: .*write.*NotADirectory",
        ),
        (lambda f, create: store(job(create.output), f"{f}/place", latest="a/b"), "^latest: 'a/b'"),
        (lambda f, create: store(job(create.output), "nodrive://x/y"), "^destination: 'nodrive"),
        (lambda f, create: store(job(LocalCluster(), "own"), f"{f}/file.py/x"), "^destination: "),
        (lambda f, create: store(job(job(create.output).output["x"], "then"), f"{f}/file.py/x"), "^destination: "),
    ],
    ids=["script", "file", "destination", "latest", "scheme", "a job with its own cluster", "after two jobs"],
)
def test_refused_before_there_is_a_cluster(tmp_path: Path, make: Makes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        asked(tmp_path, make)


def mapped(folder: Path, create: Any) -> None:
    DaskJobOperator.partial(task_id="run", cluster=create.output).expand(script=[f"{folder}/none.py"])


def written_by_another_job(folder: Path, create: Any) -> None:
    job(create.output) >> job(create.output, "then", script=f"{folder}/none.py")


def place_made_by_another_task(folder: Path, create: Any) -> None:
    EmptyOperator(task_id="make_place") >> store(job(create.output), f"{folder}/file.py/x")


def known_at_its_turn(folder: Path, create: Any) -> None:
    store(job(create.output), f"{folder}/file.py/{{{{ ti.xcom_pull('x') }}}}")


def possible(folder: Path, create: Any) -> None:
    store(job(create.output, script=f"{folder}/file.py"), f"{folder}/not/made/yet/{{{{ ds }}}}/", latest="latest")


@pytest.mark.parametrize(
    "make", [mapped, written_by_another_job, place_made_by_another_task, known_at_its_turn, possible]
)
def test_left_to_the_step_itself(tmp_path: Path, make: Makes) -> None:
    (tmp_path / "file.py").write_text("print(1)")
    asked(tmp_path, make)
    assert [path.name for path in tmp_path.iterdir()] == ["file.py"], "a look leaves nothing"
