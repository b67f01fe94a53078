"""The scenarios of the selected tests, begun together in one Airflow of each version."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.airflow_server import AirflowServer
from tests.system.calm import scenarios
from tests.system.kubernetes import kubernetes_airflow

__all__ = ["begun", "begun_on_2", "kubernetes_airflow"]


@pytest.fixture(scope="session")
def begun(request: pytest.FixtureRequest, airflow3: AirflowServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    _begin(request, "test_event", airflow3, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def begun_on_2(
    request: pytest.FixtureRequest, airflow2: AirflowServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenarios.wait_all(3)  # two Airflows at once are more than two cores can bear
    _begin(request, "test_event_on_airflow_2", airflow2, tmp_path_factory.mktemp("runs"))


def _begin(request: pytest.FixtureRequest, test: str, server: AirflowServer, folder: Path) -> None:
    items = [item for item in request.session.items if getattr(item, "originalname", "") == test]
    scenarios.begin([item.callspec.params["name"] for item in items], server, folder)
