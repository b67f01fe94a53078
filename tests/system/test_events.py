"""What happens when…: every row of the event table in a real Airflow, and what is left afterwards."""

from __future__ import annotations

import pytest

from tests.system.calm import scenarios

#: those whose mechanism differs between Airflow 2 and 3
ALSO_ON_2 = [
    "whole_run[deferred]",
    "marked_failed[running]",
    "marked_failed[deferred]",
    "mapped_marked_failed[running]",
    "mapped_marked_failed[deferred]",
    "execution_timeout[deferred]",
    "killed_process[both]",
]


@pytest.mark.parametrize("name", scenarios.names)
def test_event(name: str, begun: None) -> None:
    scenarios.check(3, name)
    assert name in scenarios.names


@pytest.mark.parametrize("name", ALSO_ON_2)
def test_event_on_airflow_2(name: str, begun_on_2: None) -> None:
    scenarios.check(2, name)
    assert name in scenarios.names
