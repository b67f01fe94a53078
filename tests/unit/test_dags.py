"""The repository's DAGs, as Airflow parses them: with their defaults they ask for clusters that are valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
from dask_provider._compat import AIRFLOW_3
from dask_provider.clusters import KubernetesCluster
from dask_provider.hooks.kubernetes import manifests
from dask_provider.owner import Owner

if AIRFLOW_3:
    from airflow.dag_processing.dagbag import DagBag
else:
    from airflow.models.dagbag import DagBag

DAGS = Path(__file__).parents[2] / "dags"
ON_KUBERNETES = {
    "dask_kubernetes_ephemeral": ("etl", (2, 2)),
    "dask_kubernetes_autoscale": ("etl", (1, 8)),
    "optuna_hyperparameters": ("search", (4, 4)),
}


def parse(path: Path) -> Any:
    bag = DagBag(str(path)) if AIRFLOW_3 else DagBag(str(path), include_examples=False)
    assert not bag.import_errors, bag.import_errors
    (dag,) = bag.dags.values()
    return dag


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLIGHTS_INPUT", "FLIGHTS_RESULTS", "OPTUNA_RESULTS", "DASK_KUBERNETES_FIELDS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_file_is_one_dag_of_its_name(path: Path) -> None:
    assert parse(path).dag_id == path.stem


def rendered(spec: KubernetesCluster, params: dict[str, Any]) -> KubernetesCluster:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)

    def render(value: Any) -> Any:
        if isinstance(value, str):
            return environment.from_string(value).render(params=params)
        if isinstance(value, list | tuple):
            return type(value)(map(render, value))
        return {name: render(item) for name, item in value.items()} if isinstance(value, dict) else value

    return spec.rendered(render)


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("name", ON_KUBERNETES)
def test_clusters_by_default(name: str) -> None:
    dag = parse(DAGS / f"{name}.py")
    group, workers = ON_KUBERNETES[name]
    spec = dag.get_task(f"{group}.create_cluster").cluster
    params = {key: param.value for key, param in dag.params.items()}
    filled = rendered(spec, params)
    assert (filled.namespace, filled.conn_id, filled.worker_range) == ("dask", "kubernetes_default", workers)
    assert manifests.dask_cluster(filled, Owner("prod", name, "run", "task"), namespace="dask")["kind"] == "DaskCluster"


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("name", ON_KUBERNETES)
def test_where_results_go_is_asked_for_before_anything_costs_money(name: str) -> None:
    with pytest.raises(Exception, match=r"results|input"):
        parse(DAGS / f"{name}.py").params.validate()


@pytest.mark.usefixtures("no_settings")
def test_fields_of_the_environment_are_laid_over_those_of_the_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_KUBERNETES_FIELDS", '{"service_account": "dask-jobs", "workers": 3}')
    spec = parse(DAGS / "dask_kubernetes_ephemeral.py").get_task("etl.create_cluster").cluster
    assert (spec.service_account, spec.worker_range) == ("dask-jobs", (3, 3))
