"""Times of events, logs and tokens, whoever wrote them."""

from __future__ import annotations

import pytest
from dask_provider.hooks.kubernetes.times import nanoseconds, rfc3339, seconds


@pytest.mark.parametrize(
    ("text", "since_1970"),
    [
        ("2026-08-01T02:00:00Z", 1785549600_000000000),
        ("2026-08-01T04:00:00+02:00", 1785549600_000000000),
        ("2026-08-01T02:00:00.5Z", 1785549600_500000000),
        ("2026-08-01T02:00:00.123456789Z", 1785549600_123456789),
    ],
)
def test_nothing_of_a_time_is_lost(text: str, since_1970: int) -> None:
    assert nanoseconds(text) == since_1970
    assert seconds(text) == pytest.approx(since_1970 / 10**9)
    assert rfc3339(since_1970) == "2026-08-01T02:00:00Z", "not later"


@pytest.mark.parametrize("text", ["", "unable", "2026-08-01", "2026-08-01T02:00:00", "2026-08-01T02:00:00Z more"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        nanoseconds(text)
