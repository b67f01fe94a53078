"""Our side of the chain: waiting in the worker, and as `deferrable=True` comes."""

from __future__ import annotations

import os

from airflow.sdk import DAG
from dask_provider.clusters import DataprocCluster
from dask_provider.operators import DaskJobOperator, DaskStoreResultsOperator
from dask_provider.task_groups import dask_cluster

SPEC = DataprocCluster(conn_id="google", region=os.environ["BENCHMARK_REGION"], workers=2, min_ready_workers=1)

for mode, deferrable in (("running", False), ("deferrable", True)):
    with DAG(f"ours-{mode}", schedule=None, params={"name": "", "results": "", "seconds": ""}):
        with dask_cluster("etl", SPEC, deferrable=deferrable) as cluster:
            run = DaskJobOperator(
                task_id="job",
                cluster=cluster,
                script=os.environ["BENCHMARK_JOB"],
                arguments=["{{ params.seconds }}"],
                deferrable=deferrable,
            )
        DaskStoreResultsOperator(task_id="store", source=run.output, destination="gs://google@{{ params.results }}/")
