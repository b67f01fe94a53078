"""What somebody who follows a job bears."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from dask_provider.hooks.kubernetes import following
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError, Unreachable
from dask_provider.hooks.kubernetes.feed import GRACE


def test_a_server_may_refuse_for_a_moment_after_an_outage_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: clock.now))
    client = Client(Access(server="https://x", source="a test"))
    follower = following._Follower(client, "etl", "job-1", 0, eager=True)
    refused = ApiError(401, "Unauthorized", "no")
    for clock.now in (1.0, 2 * GRACE, 9 * GRACE):
        follower._bear(Unreachable("away"))
    clock.now += 1
    follower._bear(refused)
    clock.now += GRACE - 1
    follower._bear(refused)
    clock.now += 2
    with pytest.raises(ApiError, match="401"):
        follower._bear(refused)
