"""A KubernetesJobTask brought over."""

from __future__ import annotations

from typing import Any

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.luigi import from_luigi
from dask_provider.operators import KubernetesJobOperator

TASK: dict[str, Any] = {
    "name": "preprocess-data",
    "spec_schema": {"containers": [{"name": "preprocess-data", "image": "clc-example:v1"}]},
    "cmd": ["python", "-m", "clc.preprocess", "{input}"],
}


def test_the_task_of_the_tutorial() -> None:
    fields = from_luigi(**TASK)
    assert fields == {**TASK, "retries": 6}
    step = KubernetesJobOperator(task_id="preprocess", **fields)
    assert (step.retries, step.cmd) == (6, TASK["cmd"])


def test_all_words() -> None:
    more = {"labels": {"team": "a"}, "backoff_limit": 0, "active_deadline_seconds": 600, "poll_interval": 1}
    rest = {"delete_on_success": False, "print_pod_logs_on_exit": True, "kubernetes_namespace": "etl"}
    fields = from_luigi(**TASK, **more, **rest)
    assert fields["labels"] == {"team": "a"}
    assert (fields["retries"], fields["active_deadline_seconds"], fields["namespace"]) == (0, 600, "etl")
    assert fields["keep_seconds"] == 7 * 86400
    KubernetesJobOperator(task_id="preprocess", **fields)


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"backoff_limit": -1}, "backoff_limit"),
        ({"spec_schema": {"containers": [{"image": "a"}], "restartPolicy": "OnFailure"}}, "restartPolicy"),
        ({"cmd": "python -m clc"}, "cmd"),
    ],
)
def test_what_cannot_be_brought_over(over: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        from_luigi(**{**TASK, **over})
