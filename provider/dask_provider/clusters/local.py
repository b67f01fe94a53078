"""A cluster of processes on the host of the Airflow worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dask_provider.clusters.base import TemporaryClusterSpec
from dask_provider.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, repr=False)
class LocalCluster(TemporaryClusterSpec):
    """Scheduler and workers as detached processes of the worker's own host (one-machine Airflows, laptops, tests).

    They outlive the task that made them, are found again by a record in ``[dask] state_dir``, and end by themselves
    when idle or too old. Other hosts cannot reach them: worker and triggerer must share the host.

    :param host: address on which the scheduler listens.
    :param python: Python interpreter of scheduler, workers and jobs; ``None``: the one that runs Airflow.
    :param local_directory: where workers spill to disk; ``None``: a folder below the state directory, removed with
        the cluster.
    """

    place: ClassVar[str] = "local"
    hook: ClassVar[str] = "dask_provider.hooks.local:LocalHook"

    host: str = "127.0.0.1"
    python: str | None = None
    local_directory: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("host", "python", "local_directory"):
            if getattr(self, name) == "":
                raise InvalidInput(self._field(name), "", "text that is not empty")
