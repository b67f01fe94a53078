"""The network policy of deploy/kubernetes where it is enforced: who reaches a scheduler, and who does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.integration.kubernetes.deployed import HOST_PATHS, deploy
from tests.integration.kubernetes.place import Namespace
from tests.integration.place import until
from tests.servers.kubernetes import DASK_IMAGE, KubernetesServer
from tests.servers.kubernetes.policies import kube_router, policies_enforced

JOB = """
    from distributed import Client
    client = Client()
    client.wait_for_workers(2)
    one, other = client.scheduler_info()["workers"]
    made = client.submit(list, range(5), workers=[one])
    print("sum", client.submit(sum, made, workers=[other]).result())
"""
#: prints which of its arguments, host and port, take a connection
PROBE = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
    except OSError:
        continue
    print(address)
"""
VISITOR, WEB = "visitor", 8000
#: what a visitor reaches: pods that the policy does not mean, the scheduler's HTTP port too, all of the scheduler
FREE = {"stranger", "elsewhere"}
HTTP = FREE | {"pod:8787", "service:8787"}
ALL = HTTP | {"pod:8786", "service:8786"}


@contextmanager
def visitor(server: KubernetesServer, namespace: str) -> Iterator[list[str]]:
    """A pod without our labels, which serves a page; how to run a program there."""
    small = {"cpu": "20m", "memory": "64Mi"}
    command = ["python3", "-m", "http.server", str(WEB)]
    container = {"name": VISITOR, "image": DASK_IMAGE, "command": command, "resources": {"requests": small}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    metadata = {"name": VISITOR, "namespace": namespace}
    server.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    try:
        server.kubectl("wait", "--for=condition=Ready", f"pod/{VISITOR}", "-n", namespace, "--timeout=60s")
        yield server.kubectl_command("exec", VISITOR, "-n", namespace, "--", "python3")
    finally:
        server.kubectl("delete", "pod", VISITOR, "-n", namespace)


def address(server: KubernetesServer, namespace: str) -> str:
    return str(server.get("pod", VISITOR, "-n", namespace)["status"]["podIP"])


def reached(python: list[str], targets: dict[str, str]) -> set[str]:
    """The names of the addresses that can be reached from where this Python runs."""
    done = subprocess.run([*python, "-c", PROBE, *targets.values()], capture_output=True, text=True, check=True)
    return {name for name, target in targets.items() if target in done.stdout.split()}


@pytest.mark.whole
@pytest.mark.timeout(1800)  # the first time, kube-router is built
async def test_only_pods_of_clusters_reach_a_scheduler(place: Namespace, tmp_path: Path) -> None:
    program, reason = kube_router()
    require(f"kube-router ({reason})", program is not None)
    assert program
    server, namespace = place.server, place.name
    deploy(server, namespace, tmp_path, [HOST_PATHS])
    with (
        policies_enforced(server, program),
        server.namespace() as elsewhere,
        server.namespace(name="dask-operator") as operator,
        visitor(server, namespace) as in_ours,
        visitor(server, elsewhere) as in_another,
        visitor(server, operator) as in_operators,
        visitor(server, "kube-system") as in_system,
    ):
        handle = await place.ready(place.spec(workers=2))
        told = await place.run(handle, JOB)
        assert (told.outcome.succeeded, "sum 10" in told.lines) == (True, True), told

        (pod,) = place.pods("dask.org/component=scheduler")
        (lease,) = place.pods("dask-provider/role=lease")
        service = server.get("service", f"{handle.name}-scheduler", "-n", namespace)
        hosts = {"pod": pod["status"]["podIP"], "service": service["spec"]["clusterIP"]}
        targets = {f"{name}:{port}": f"{host}:{port}" for name, host in hosts.items() for port in (8786, 8787)}
        targets["stranger"] = f"{address(server, namespace)}:{WEB}"
        targets["elsewhere"] = f"{address(server, elsewhere)}:{WEB}"
        in_lease = server.kubectl_command("exec", lease["metadata"]["name"], "-n", namespace, "--", "python3")
        # This machine is to the node what an API server elsewhere is.
        origins = {"lease": in_lease, "ours": in_ours, "another": in_another, "operator": in_operators}
        origins |= {"kube-system": in_system, "machine": [sys.executable]}

        def seen() -> dict[str, set[str]]:
            return {origin: reached(python, targets) for origin, python in origins.items()}

        allowed = {"lease": ALL, "ours": FREE, "another": FREE, "operator": HTTP, "kube-system": HTTP}
        await until(lambda: reached(in_ours, targets) == FREE)
        assert seen() == {**allowed, "machine": FREE}

        block: dict[str, Any] = {"op": "replace", "path": "/spec/ingress/1/from/2/ipBlock/cidr"}
        block["value"] = f"{server.net.host}/32"
        patch = {"target": {"kind": "NetworkPolicy"}, "patch": json.dumps([block])}
        deploy(server, namespace, tmp_path, [HOST_PATHS, patch])
        await until(lambda: reached(origins["machine"], targets) == HTTP)
        assert seen() == {**allowed, "machine": HTTP}

        server.kubectl("delete", "networkpolicy", "dask", "-n", namespace)
        await until(lambda: reached(origins["ours"], targets) == ALL)
        assert seen() == dict.fromkeys(origins, ALL)
        await place.delete(handle)
