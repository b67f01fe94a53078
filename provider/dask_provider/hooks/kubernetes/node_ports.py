"""NodePorts, to which people and programs outside of Kubernetes connect: changed, and those that cannot be had."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks.kubernetes import paths as api
from dask_provider.hooks.kubernetes.causes import Cause
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError
from dask_provider.hooks.kubernetes.objects import Object, name_of
from dask_provider.hooks.kubernetes.pods import COMM, HTTP

#: fields of the user by the port of the service that they are for
FIELDS = {COMM[0]: "node_port", HTTP[0]: "dashboard_node_port"}
#: the value in what the API server says of a port that is taken, or outside of the range of this Kubernetes
_REFUSED = re.compile(r"nodePort: Invalid value: (\d+)")


async def change(k: Client, namespace: str, cluster: str, wanted: Mapping[int, int]) -> None:
    """Change the Service, and then the DaskCluster, so that a service that has to be made again has the same ports.

    :param wanted: ports on the nodes by the ports of the service.
    :raises InvalidInput: for a port that cannot be had; nothing is changed then.
    """
    service = f"{cluster}-scheduler"
    found = (await k.list(api.services(namespace), fields={"metadata.name": service}))["items"]
    if not found:
        raise ClusterFailed(f"cluster {cluster} has no service {service} yet: change its ports when it is ready")
    kind = found[0]["spec"].get("type", "ClusterIP")
    if kind == "ClusterIP":
        raise InvalidInput("service_type", kind, 'a cluster that was made with service_type="NodePort"')
    ports = [{"port": port, "nodePort": node_port} for port, node_port in wanted.items()]
    try:
        # Merged port by port, as Kubernetes does it with lists of its own kinds.
        await k.patch(api.services(namespace, service), {"spec": {"ports": ports}}, kind="strategic-merge")
    except ApiError as error:
        if error.status != 422:
            raise
        raise _refused(error, wanted) from error
    made = await k.get(api.daskclusters(namespace, cluster))
    body = {"spec": {"scheduler": {"service": {"ports": _changed(made, wanted)}}}}
    await k.patch(api.daskclusters(namespace, cluster), body)


def no_service(cluster: Object, services: Sequence[Object]) -> Cause | None:
    """Why a cluster has no service, if it has none: a port that another one has keeps the operator trying. Pure.

    :param services: all of the namespace.
    """
    name = f"{name_of(cluster)}-scheduler"
    if any(name_of(service) == name for service in services):
        return None
    wanted = {port.get("nodePort") for port in cluster["spec"]["scheduler"]["service"].get("ports") or ()} - {None}
    holders = {
        port["nodePort"]: name_of(service)
        for service in services
        for port in service["spec"].get("ports") or ()
        if port.get("nodePort") in wanted
    }
    why = "its log says why"
    if wanted:
        said = [f"{port} is that of {holders.get(port, 'another one, perhaps')}" for port in sorted(holders or wanted)]
        why = f"node port {', '.join(said)}"
    return Cause(f"the Dask operator has made no service {name}: {why}", False)  # the other one may go


def _changed(made: Object, wanted: Mapping[int, int]) -> list[Object]:
    """All ports of the DaskCluster's service: lists of custom resources are replaced as a whole."""
    ports: list[Object] = made["spec"]["scheduler"]["service"]["ports"]
    return [{**port, "nodePort": wanted[port["port"]]} if port["port"] in wanted else port for port in ports]


def _refused(error: ApiError, wanted: Mapping[int, int]) -> InvalidInput:
    value = re.search(_REFUSED, error.message)
    guilty = {FIELDS[port]: node_port for port, node_port in wanted.items() if value and str(node_port) == value[1]}
    field, node_port = next(iter(guilty.items()), (", ".join(map(FIELDS.__getitem__, wanted)), list(wanted.values())))
    return InvalidInput(field, node_port, f"a port that this Kubernetes has free: {error}")
