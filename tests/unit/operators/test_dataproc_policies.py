"""Autoscaling policies: what is refused before anybody is asked, and whole requests."""

from __future__ import annotations

from typing import Any

import pytest
from dask_provider.clusters.dataproc_policies import AutoscalingPolicy
from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc.policies import request
from dask_provider.operators import DaskDeleteAutoscalingPolicyOperator, DaskSetAutoscalingPolicyOperator

LEAST: dict[str, Any] = {"policy_id": "etl", "region": "europe-west1"}


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"policy_id": "-a"}, "policy_id", "3 to 50"),
        ({"region": "europe"}, "region", "a region like"),
        ({"project_id": "123"}, "project_id", "not its number"),
        ({"workers": 1}, "workers", "at least 2"),
        ({"workers": (3, 2)}, "workers", "minimum <= maximum"),
        ({"secondary_workers": (0, 1, 2)}, "secondary_workers", "a pair"),
        ({"secondary_workers": "some"}, "secondary_workers", "at least 0"),
        ({"cooldown": "1 min"}, "cooldown", "2 min to 1 day"),
        ({"cooldown": "25h"}, "cooldown", "2 min to 1 day"),
        ({"graceful_timeout": "2d"}, "graceful_timeout", "0 to 1 day"),
        ({"scale_up": 1.5}, "scale_up", "from 0 to 1"),
        ({"scale_down": True}, "scale_down", "from 0 to 1"),
        ({"scale_down_min_fraction": -0.1}, "scale_down_min_fraction", "from 0 to 1"),
        ({"scale_up_min_fraction": "much"}, "scale_up_min_fraction", "from 0 to 1"),
        ({"min_workers": 2}, "policy", "policy_id and region"),
    ],
)
def test_refused(fields: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        DaskSetAutoscalingPolicyOperator(task_id="policy", policy={**LEAST, **fields})
    assert refused.value.field == field
    assert allowed in refused.value.allowed


def test_whole_requests() -> None:
    config = {"gracefulDecommissionTimeout": "3600s", "scaleUpFactor": 1.0, "scaleDownFactor": 1.0}
    config |= {"scaleUpMinWorkerFraction": 0.0, "scaleDownMinWorkerFraction": 0.0}
    assert request(AutoscalingPolicy(**LEAST)) == {
        "id": "etl",
        "workerConfig": {"minInstances": 2, "maxInstances": 2},
        "secondaryWorkerConfig": {"minInstances": 0, "maxInstances": 0},
        "basicAlgorithm": {"cooldownPeriod": "120s", "yarnConfig": config},
    }
    given: dict[str, Any] = {"scale_up": "0.5", "scale_down": 0, "scale_up_min_fraction": 0.1, "graceful_timeout": 0}
    given |= {"workers": ("2", "4"), "secondary_workers": (0, 20), "cooldown": "10 min"}
    config |= {"scaleUpFactor": 0.5, "scaleDownFactor": 0.0, "scaleUpMinWorkerFraction": 0.1}
    config |= {"gracefulDecommissionTimeout": "0s"}
    assert request(AutoscalingPolicy(**LEAST, **given)) == {
        "id": "etl",
        "workerConfig": {"minInstances": 2, "maxInstances": 4},
        "secondaryWorkerConfig": {"minInstances": 0, "maxInstances": 20},
        "basicAlgorithm": {"cooldownPeriod": "600s", "yarnConfig": config},
    }


def test_templates_are_checked_once_they_are_rendered() -> None:
    step = DaskSetAutoscalingPolicyOperator(
        task_id="policy",
        policy=AutoscalingPolicy(
            policy_id="{{ name }}", region="{{ region }}", workers=("{{ low }}", 4), scale_up="{{ x }}"
        ),
    )
    step.render_template_fields({"name": "etl", "region": "europe-west1", "low": "1", "x": "0.5"})
    with pytest.raises(InvalidInput, match="workers: '1'"):
        step.plan()
    gone = DaskDeleteAutoscalingPolicyOperator(task_id="gone", policy_id="{{ name }}", region="europe-west1")
    gone.render_template_fields({"name": "etl"})
    assert gone.plan() == {"delete autoscaling policy": "etl", "region": "europe-west1", "project_id": None}
