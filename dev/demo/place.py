"""Where the demo lives, and the Airflow that it runs."""

from __future__ import annotations

import sys
from pathlib import Path

from dev.airflow_server import AirflowServer

CHECKOUT = Path(__file__).resolve().parents[2]
DAG_ID = "flights_daily"


class Place:
    def __init__(self, folder: Path, dags: Path) -> None:
        self.folder = folder.absolute()
        self.dags = dags.absolute()
        self.home = self.folder / "airflow"
        self.input = self.folder / "input"
        self.results = self.folder / "results" / "flights"
        self.state = self.home / "dask"

    def server(self) -> AirflowServer:
        return AirflowServer(
            self.home,
            Path(sys.executable),
            self.dags,
            config={
                "AIRFLOW__DASK__INSTANCE": "demo",
                "AIRFLOW__DASK__STATE_DIR": str(self.state),
                # Only what is asked for runs: a DAG that is unpaused would start its last scheduled run as well.
                "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
            },
            env={"FLIGHTS_INPUT": str(self.input), "FLIGHTS_RESULTS": str(self.results)},
        )
