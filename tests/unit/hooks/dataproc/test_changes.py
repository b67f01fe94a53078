"""What a cluster of Dataproc says of its own size."""

from __future__ import annotations

from typing import Any

import pytest
from dask_provider.hooks.dataproc import changes, requests


@pytest.mark.parametrize(
    ("found", "most"),
    [
        ({"config": {"workerConfig": {"numInstances": 2}}}, 2),
        ({"config": {"workerConfig": {"numInstances": 2}, "secondaryWorkerConfig": {"numInstances": 3}}}, 5),
        ({"config": {}, "labels": {"team": "a"}}, 0),
        ({"config": {"workerConfig": {"numInstances": 2}}, "labels": {requests.LIMITS: requests.limits(2, 10)}}, 10),
    ],
)
def test_no_job_waits_for_more_workers_than_may_come(found: dict[str, Any], most: int) -> None:
    assert changes.most_workers(found) == most
