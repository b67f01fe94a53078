"""Why a cluster has no service."""

from __future__ import annotations

from typing import Any

from dask_provider.hooks.kubernetes.node_ports import no_service


def service(name: str, *ports: int) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80, "nodePort": port} for port in ports]}}


def cluster(*ports: int) -> dict[str, Any]:
    return {"metadata": {"name": "etl"}, "spec": {"scheduler": {"service": service("", *ports)["spec"]}}}


def test_who_has_the_port() -> None:
    assert no_service(cluster(30001), [service("etl-scheduler", 30001)]) is None
    headless = {"metadata": {"name": "headless"}, "spec": {}}
    others = [service("web", 30002), headless]
    said = {ports: no_service(cluster(*ports), others) for ports in ((30001, 30002), (30001,), ())}
    texts = {ports: cause.text.partition("etl-scheduler: ")[2] for ports, cause in said.items() if cause is not None}
    assert texts == {
        (30001, 30002): "node port 30002 is that of web",
        (30001,): "node port 30001 is that of another one, perhaps",
        (): "its log says why",
    }
