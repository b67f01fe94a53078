"""What a cluster has cost, whatever the place says of times."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.cost import Cost
from dask_provider.operators.cluster import cost_of

NOON = datetime(2024, 1, 31, 12, tzinfo=timezone.utc)


def test_hours_between_times_of_any_zone() -> None:
    cost = Cost(2.0, "USD", "2024-01-31T09:00:00Z", "by a table", until="2024-01-31T12:30:00+02:00")
    assert (cost.total(NOON)["hours"], cost.total(NOON)["amount"]) == (1.5, 3.0)
    assert Cost(2.0, "USD", "2024-01-31T09:00:00Z", "by a table").total(NOON)["amount"] == 6.0


@pytest.mark.parametrize("text", ["None", "", "soon", "2024-01-31T09:00:00"])
@pytest.mark.parametrize("field", ["since", "until"])
async def test_a_time_that_says_nothing_ends_no_delete_step(field: str, text: str) -> None:
    times = {"since": "2024-01-31T09:00:00Z", field: text}
    with pytest.raises(InvalidInput, match=rf"Cost.{field}: '{text}' .*zone"):
        Cost(1.0, "USD", text="by a table", **times)

    class Place:
        async def cost(self, handle: ClusterHandle) -> Cost:
            return Cost(1.0, "USD", text="by a table", **times)

    place: Any = Place()
    assert await cost_of(place, ClusterHandle("local", "dask-x", "u", {}), logging.getLogger()) is None
