"""What happens when…: every row of the event table in a real Airflow, and what is left afterwards."""

from __future__ import annotations

import pytest

from tests.system.calm import scenarios

#: those whose mechanism differs between Airflow 2 and 3
ALSO_ON_2 = [
    "whole_run[deferred]",
    "marked_failed[running]",
    "mapped_marked_failed[deferred]",
    "execution_timeout[deferred]",
    "killed_process[both]",
]
#: those that say little more than their neighbours: `make test-whole` runs them
SAYS_LITTLE_MORE = {
    "job_fails[deferred]",
    "create_killed_half_way[running]",
    "own_cluster_marked_failed[running]",
    "cleared[running]",
    "dagrun_timeout[running]",
    "killed_process[task]",
    "create_killed_and_retried[task]",
    "retry_on_the_same_cluster[running]",
    "mapped_marked_failed[running]",
    "run_marked_failed[running]",
    "own_cluster[running]",
    "mapped_cleared[running]",
    "own_cluster_cleared[running]",
    "killed_process[supervisor]",
    "create_killed_and_retried[supervisor]",
    "store_killed[task]",
}
assert set(scenarios.names) > SAYS_LITTLE_MORE


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.whole] * (name in SAYS_LITTLE_MORE)) for name in scenarios.names]
)
def test_event(name: str, begun: None) -> None:
    scenarios.check(3, name)
    assert name in scenarios.names


@pytest.mark.parametrize("name", ALSO_ON_2)
def test_event_on_airflow_2(name: str, begun_on_2: None) -> None:
    scenarios.check(2, name)
    assert name in scenarios.names
