"""One DAG run of a comparison on Kubernetes: :mod:`benchmarks.on_airflow.runs`, and what it asked of the API server."""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.on_airflow.runs import TROUBLE, attempt, dag_run, failure, task_instances, told, until_gone
from benchmarks.on_kubernetes.stage import Stage

__all__ = ["TROUBLE", "attempt", "counts", "dag_run", "failure", "task_instances", "told", "until_gone"]


def counts(stage: Stage, account: str) -> dict[str, Any]:
    """What an account has asked of the API server since the last call."""
    asked = stage.audit.new().get(account, Counter())
    return {"requests": asked.total(), "requests_by_kind": dict(asked.most_common())}
