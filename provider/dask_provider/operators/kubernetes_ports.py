"""Change the NodePorts of a cluster on Kubernetes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dask_provider.clusters.kubernetes_fields import parse_node_port
from dask_provider.errors import InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of
from dask_provider.operators.base import DaskOperator
from dask_provider.sideloop import run_aside


class DaskChangeNodePortsOperator(DaskOperator):
    """Opens a cluster on Kubernetes at other ports of the nodes; it was made with ``service_type="NodePort"``.

    Dask clients that are connected stay so; new ones connect to the new ports.

    :param cluster: handle of the cluster.
    :param node_port: port of the scheduler on each node, 30000 to 32767; ``None``: it stays.
    :param dashboard_node_port: port of the dashboard on each node, likewise.
    """

    template_fields: Sequence[str] = ("cluster", "node_port", "dashboard_node_port")

    def __init__(
        self,
        *,
        cluster: Any,
        node_port: int | str | None = None,
        dashboard_node_port: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster = cluster
        self.node_port = node_port
        self.dashboard_node_port = dashboard_node_port

    def _ports(self) -> dict[str, int]:
        given = {"node_port": self.node_port, "dashboard_node_port": self.dashboard_node_port}
        ports = {field: parse_node_port(field, port) for field, port in given.items() if port is not None}
        if len(set(ports.values())) < max(1, len(ports)):
            raise InvalidInput("node_port, dashboard_node_port", list(given.values()), "at least one, and two ports")
        return ports

    def work(self) -> None:
        handle, ports = ClusterHandle.from_dict(self.cluster), self._ports()
        if not handle.needed:
            return
        change = getattr(hook_of(handle.place), "change_node_ports", None)
        if change is None:
            raise InvalidInput("cluster", f"a cluster on {handle.place}", "one on kubernetes")
        run_aside(change(handle, **ports))
        said = ", ".join(f"{field} {port}" for field, port in ports.items())
        self.log.info("cluster %s: %s", handle.name, said)

    def plan(self) -> dict[str, Any]:
        return {"change ports": self.cluster, **self._ports()}
