"""A cluster that somebody else runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from dask_provider.clusters.base import ClusterSpec
from dask_provider.errors import InvalidInput
from dask_provider.units import is_template

_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://[^\s/:]+:\d+|(tcp|tls)://\[[0-9a-fA-F:]+\]:\d+")


@dataclass(frozen=True, kw_only=True, repr=False)
class ExistingCluster(ClusterSpec):
    """A running Dask scheduler, by address or Airflow connection. It is checked and used, never deleted.

    Jobs run as processes of the Airflow worker's host.

    :param address: scheduler address, ``tcp://host:8786`` or ``tls://host:8786``.
    :param conn_id: Airflow connection of type ``dask`` (host, port; TLS files in the extra) instead of ``address``.
    :param dashboard_url: where users see the dashboard, when it is not the scheduler's own port.
    :param python: Python interpreter of jobs; ``None``: the one that runs Airflow. Its minor version, and the
        versions of dask and distributed, must be those of the cluster.
    """

    place: ClassVar[str] = "existing"
    hook: ClassVar[str] = "dask_provider.hooks.existing:ExistingHook"

    address: str | None = None
    conn_id: str | None = None
    dashboard_url: str | None = None
    python: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.address is None) == (self.conn_id is None):
            raise InvalidInput(
                "ExistingCluster.address, .conn_id", (self.address, self.conn_id), "exactly one of the two"
            )
        if self.address is not None and not is_template(self.address) and not _ADDRESS.fullmatch(self.address):
            raise InvalidInput("ExistingCluster.address", self.address, "tcp://host:port or tls://host:port")
        if self.tls and self.address is not None and not self.address.startswith(("tls://", "{")):
            raise InvalidInput("ExistingCluster.tls", self.tls, f"False with the address {self.address}, or tls://")
