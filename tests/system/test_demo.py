"""The repository's DAGs are parsed, and the demo's DAG runs, on both Airflows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dev.airflow_server import AirflowServer
from tests.system.calm import scenarios


@pytest.mark.parametrize("version", [3, 2])
def test_flights_daily(version: int, request: pytest.FixtureRequest, flights: Path) -> None:
    server: AirflowServer = request.getfixturevalue(f"airflow{version}")
    scenarios.wait_all(version)
    for dag_id in ("flights_daily", "dask_reaper"):
        server.client.wait_for_dag(dag_id)
    assert server.client.import_errors() == {}
    run_id = server.client.trigger("flights_daily", {"days": 3, "day": "2013-02-01"})
    states = [server.client.wait_for_run("flights_daily", run_id)]
    states += [instance.state or "" for instance in server.client.task_instances("flights_daily", run_id)]
    assert set(states) == {"success"}
    summary = json.loads((flights / f"airflow{version}" / "latest" / "summary.json").read_text())
    # Counted row by row in the CSV files of the three days.
    assert (summary["flights"], summary["cancelled"]) == (2422, 36)
