"""Airflow's own floor: four tasks in a row that do nothing."""

from __future__ import annotations

from airflow.sdk import DAG, chain, task

with DAG("floor", schedule=None):

    @task
    def nothing() -> None:
        pass

    chain(*(nothing.override(task_id=step)() for step in ("create", "job", "store", "delete")))
