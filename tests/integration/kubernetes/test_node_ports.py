"""NodePorts that are changed while the cluster lives."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks import hook_of
from dask_provider.operators import DaskChangeNodePortsOperator

from tests.integration.kubernetes.place import Namespace
from tests.integration.place import FIRST, until

COMM, HTTP = 8786, 8787


def ports(made: dict[str, Any]) -> dict[int, int]:
    return {port["port"]: port["nodePort"] for port in made["ports"]}


def answers(address: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/json/counts.json", timeout=2) as answer:
            return int(json.load(answer)["workers"]) == 1
    except OSError:
        return False


async def test_ports_are_changed_and_those_that_cannot_be_had_are_named(place: Namespace) -> None:
    hook, server = hook_of("kubernetes"), place.server
    handle = await place.ready(place.spec(service_type="NodePort", node_port=30501))
    service = f"{handle.name}-scheduler"
    addresses = server.get("node", server.node)["status"]["addresses"]
    (node,) = [each["address"] for each in addresses if each["type"] == "InternalIP"]
    first = ports(server.get("service", service, "-n", place.name)["spec"])
    assert first[COMM] == 30501
    assert await until(lambda: answers(node, first[HTTP]))

    wanted = {"node_port": 30502, "dashboard_node_port": "30503"}
    DaskChangeNodePortsOperator(task_id="ports", cluster=handle.to_dict(), **wanted).work()
    assert ports(server.get("service", service, "-n", place.name)["spec"]) == {COMM: 30502, HTTP: 30503}
    cluster = server.get("daskcluster", handle.name, "-n", place.name)["spec"]
    assert ports(cluster["scheduler"]["service"]) == {COMM: 30502, HTTP: 30503}
    assert await until(lambda: answers(node, 30503))
    assert await until(lambda: not answers(node, first[HTTP]))

    taken = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30504}]}
    other = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other", "namespace": place.name}}
    server.apply({**other, "spec": taken})
    with pytest.raises(InvalidInput, match=r"^dashboard_node_port: 30504 is not possible.*already allocated"):
        await hook.change_node_ports(handle, node_port=30505, dashboard_node_port=30504)
    assert ports(server.get("service", service, "-n", place.name)["spec"]) == {COMM: 30502, HTTP: 30503}
    server.kubectl("delete", "service", "other", "-n", place.name)
    await place.delete(handle)


@pytest.mark.whole
async def test_a_port_that_is_taken_when_the_cluster_is_made(place: Namespace) -> None:
    hook, first = hook_of("kubernetes"), await place.ready(place.spec(service_type="NodePort", node_port=30511))
    spec = place.spec(service_type="NodePort", node_port=30511, ready_timeout=25)
    second = await hook.create(spec, place.owner("second"), FIRST)
    said = rf"has made no service {second.name}-scheduler: node port 30511 is that of {first.name}-scheduler$"
    with pytest.raises(ClusterFailed, match=said):
        await place.wait_ready(hook, second)
    await place.delete(first)
    await place.delete(second)


async def test_a_cluster_that_has_none(place: Namespace) -> None:
    handle = await place.ready(place.spec())
    with pytest.raises(InvalidInput, match=r"^service_type: 'ClusterIP' is not possible"):
        await hook_of("kubernetes").change_node_ports(handle, node_port=30502)
    await place.delete(handle)
