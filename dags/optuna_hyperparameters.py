"""Hyperparameters of two models by Optuna, serial and over a temporary Dask cluster on Kubernetes, side by side.

The image needs dask, optuna, scikit-learn, matplotlib and the file system of the staging area. One of the Dask
project's gets what it lacks by ``packages``, while its containers start; an own image is quicker: then set the param
``packages`` to nothing.

Needs a namespace as ``deploy/kubernetes`` makes it, and ``[dask] staging`` at a place that pods and Airflow reach.
Environment of Airflow, optional: ``OPTUNA_RESULTS``, default of a param; ``DASK_KUBERNETES_FIELDS``, JSON with further
fields of KubernetesCluster.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.models.param import Param

from dask_provider.clusters import KubernetesCluster
from dask_provider.operators import DaskJobOperator, DaskStoreResultsOperator
from dask_provider.task_groups import dask_cluster

JOBS = Path(__file__).resolve().parent.parent / "jobs"
FIELDS = json.loads(os.environ.get("DASK_KUBERNETES_FIELDS", "{}"))
CLUSTER = {
    "conn_id": "{{ params.conn_id }}",
    "namespace": "{{ params.namespace }}",
    "image": "{{ params.image }}",
    "workers": "{{ params.workers }}",
    # What `packages={"pip": [...]}` sets, as text: a list cannot depend on params.
    "env": {"EXTRA_PIP_PACKAGES": "{{ params.packages or '' }}"},
    "ready_timeout": "15 min",  # installing takes a while
    "max_lifetime": "4h",
}

with DAG(
    "optuna_hyperparameters",
    description="Optuna studies of a decision tree and a random forest, serial and over Dask",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    params={
        "conn_id": Param("kubernetes_default", type="string", description="Airflow connection of type kubernetes"),
        "namespace": Param("dask", type="string"),
        "image": Param("ghcr.io/dask/dask:2026.8.0", type="string"),
        "packages": Param(
            "optuna scikit-learn matplotlib s3fs",
            type=["null", "string"],
            description="installed at the start, or nothing; s3fs is for [dask] staging on s3://",
        ),
        "workers": Param(4, type="integer", minimum=1, maximum=100),
        "trials": Param(40, type="integer", minimum=1, description="trials of each of the four studies"),
        "results": Param(os.environ.get("OPTUNA_RESULTS"), type="string", description="where results are stored"),
    },
    default_args={"retries": 1, "retry_delay": timedelta(seconds=30)},
    tags=["dask", "kubernetes", "optuna"],
) as dag:
    with dask_cluster("search", KubernetesCluster(**{**CLUSTER, **FIELDS})) as cluster:
        run = DaskJobOperator(
            task_id="run",
            cluster=cluster,
            script=str(JOBS / "optuna_search.py"),
            arguments=["--trials", "{{ params.trials }}"],
        )
    DaskStoreResultsOperator(
        task_id="store",
        source=run.output,
        destination="{{ params.results }}/{{ run_id | replace(':', '-') | replace('+', '-') }}",
    )
