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
    more = {"labels": {"team": "a"}, "backoff_limit": 0, "max_retrials": 0, "active_deadline_seconds": 600}
    rest = {"delete_on_success": False, "print_pod_logs_on_exit": True, "kubernetes_namespace": "etl"}
    rest |= {"poll_interval": 1, "pod_creation_wait_interal": 1}
    fields = from_luigi(**TASK, **more, **rest)
    assert fields["labels"] == {"team": "a"}
    assert (fields["retries"], fields["active_deadline_seconds"], fields["namespace"]) == (0, 600, "etl")
    assert fields["keep_seconds"] == 7 * 86400
    KubernetesJobOperator(task_id="preprocess", **fields)
    assert from_luigi(**TASK, max_retrials=2)["retries"] == 2


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"backoff_limit": -1}, "backoff_limit"),
        ({"max_retrials": True}, "max_retrials"),
        ({"max_retrials": 2, "backoff_limit": 6}, "max_retrials: 2 .*backoff_limit is 6"),
        ({"kubeconfig_path": "~/.kube/config"}, "kubeconfig_path.*conn_id"),
        ({"spec_schema": {"containers": [{"image": "a"}], "restartPolicy": "OnFailure"}}, "restartPolicy"),
        ({"cmd": "python -m clc"}, "cmd"),
    ],
)
def test_what_cannot_be_brought_over(over: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        from_luigi(**{**TASK, **over})
