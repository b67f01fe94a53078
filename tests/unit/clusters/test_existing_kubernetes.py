"""The spec of a DaskCluster that somebody else made."""

from __future__ import annotations

from typing import Any

import pytest
from dask_provider.clusters import ExistingKubernetesCluster
from dask_provider.errors import InvalidInput


def test_defaults() -> None:
    spec = ExistingKubernetesCluster(name="shared", active_deadline_seconds="2h", job_resources={"memory": "4 GiB"})
    assert (spec.ready_workers, spec.deadline) == (1, 7200)
    assert spec.job_quantities["limits"] == {"cpu": "1", "memory": "4Gi"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "name"),
        ({"name": "Shared"}, "name"),
        ({"name": "shared", "namespace": "a.b"}, "namespace"),
        ({"name": "shared", "env": {"TOKEN": "hunter2"}}, "env"),
        ({"name": "shared", "job_resources": {"cpu": 0}}, "job_resources['cpu']"),
        ({"name": "shared", "active_deadline_seconds": 0}, "active_deadline_seconds"),
        ({"name": "shared", "workers": 2}, "workers"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ExistingKubernetesCluster(**fields)
    assert refused.value.field == f"ExistingKubernetesCluster.{field}"
    assert "hunter2" not in str(refused.value)
