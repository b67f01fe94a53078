"""A running Airflow 3 and a running Airflow 2.11, each started once for all tests that ask for it.

Both read tests/system/dags and notice dead processes within seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev.airflow_server import FAST_DETECTION, AirflowServer
from dev.flights_data import unpack
from tests.servers.postgres import postgres

CHECKOUT = Path(__file__).resolve().parents[2]
DAGS = CHECKOUT / "tests" / "system" / "dags"
CONFIG = {
    **FAST_DETECTION,
    # A scheduler that is merely slow would declare itself dead and run its tasks again.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "120",
    "AIRFLOW__CORE__PARALLELISM": "32",
    # No file changes here, and reading all of them again each minute takes a fifth of a core.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    "AIRFLOW__DASK__INSTANCE": "system-tests",
    "AIRFLOW__DASK__SYNC_SECONDS": "2",
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # only what a test triggers
}


def airflow2_python() -> Path:
    return Path(os.environ.get("AIRFLOW2_PYTHON") or CHECKOUT / ".venv-airflow2" / "bin" / "python")


@pytest.fixture(scope="session")
def airflow3(tmp_path_factory: pytest.TempPathFactory, flights: Path) -> Iterator[AirflowServer]:
    """The Airflow of the environment that runs the tests."""
    with running_airflow(tmp_path_factory, flights, "airflow3", Path(sys.executable)) as server:
        yield server


@pytest.fixture(scope="session")
def airflow2(tmp_path_factory: pytest.TempPathFactory, flights: Path) -> Iterator[AirflowServer]:
    """Airflow 2.11 from its own environment."""
    from tests.conftest import require

    python = airflow2_python()
    require(f"an environment with Airflow 2.11, {python} (`make airflow2`)", python.exists())
    with running_airflow(tmp_path_factory, flights, "airflow2", python) as server:
        yield server


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo's DAG finds its ``input`` and stores its results, one folder for each Airflow."""
    folder = tmp_path_factory.mktemp("flights")
    unpack(folder / "input")
    return folder


@contextmanager
def running_airflow(
    factory: pytest.TempPathFactory,
    flights: Path,
    name: str,
    python: Path,
    config: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[AirflowServer]:
    """An Airflow that ends with the block.

    :param config: more settings, ``AIRFLOW__SECTION__KEY``.
    :param env: more environment of its components and tasks.
    """
    defaults = {
        "PYTHONPATH": str(CHECKOUT),  # tests/system/dags/collection.py imports the repository's DAGs
        "FLIGHTS_INPUT": str(flights / "input"),
        "FLIGHTS_RESULTS": str(flights / name),
    }
    with (
        postgres() as database,
        AirflowServer(
            factory.mktemp(name) / "home",
            python,
            DAGS,
            {**CONFIG, **(config or {})},
            {**defaults, **(env or {})},
            database,
        ) as server,
    ):
        yield server
