"""Ports that are refused before anybody is asked, and clusters that have none."""

from __future__ import annotations

from typing import Any

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.operators import DaskChangeNodePortsOperator

HANDLE = {"place": "local", "name": "x", "uid": "1", "owner": {}}


def step(**fields: Any) -> Any:
    return DaskChangeNodePortsOperator(task_id="ports", cluster=HANDLE, **fields)


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"node_port": 8786}, "node_port", "30000 to 32767"),
        ({"dashboard_node_port": "dashboard"}, "dashboard_node_port", "30000 to 32767"),
        ({"node_port": True}, "node_port", "30000 to 32767"),
        ({"node_port": 30001, "dashboard_node_port": "30001"}, "node_port, dashboard_node_port", "two ports"),
        ({}, "node_port, dashboard_node_port", "at least one"),
        ({"node_port": 30001}, "cluster", "one on kubernetes"),
    ],
)
def test_refused(fields: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        step(**fields).work()
    assert refused.value.field == field
    assert allowed in refused.value.allowed


def test_a_plan_names_the_ports() -> None:
    assert step(node_port="30001").plan() == {"change ports": HANDLE, "node_port": 30001}
