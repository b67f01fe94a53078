"""What all stages of comparisons have: an Airflow, and things that cost money."""

from __future__ import annotations

from abc import ABC, abstractmethod

from benchmarks.on_airflow.slots import Slots
from dev.airflow_server import AirflowServer
from dev.airflow_server.rest import Airflow3Client
from dev.airflow_server.server import running_keeper

#: of any Airflow that is measured
CONFIG = {
    "AIRFLOW__CORE__PARALLELISM": "32",
    "AIRFLOW__DASK__INSTANCE": "benchmark",
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    # A scheduler that is merely slow would declare itself dead and run its tasks again.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "120",
}


class AirflowStage(ABC):
    """What a run of a DAG is measured on."""

    airflow: AirflowServer
    slots: Slots

    @property
    def client(self) -> Airflow3Client:
        client = self.airflow.client
        assert isinstance(client, Airflow3Client)
        return client

    @property
    def keeper(self) -> int:
        """The process from which all of Airflow descends."""
        keeper = running_keeper(self.airflow.home)
        assert keeper is not None
        return keeper

    @abstractmethod
    def objects(self, kinds: str) -> list[str]:
        """What there is of these kinds, by names."""
