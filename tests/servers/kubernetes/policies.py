"""Network policies enforced on a node, whose own network lets everything through: the firewall of kube-router."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.gobuild import SYSTEM, go_program
from tests.servers.kubernetes.cached import HERE, cached, key_of, run
from tests.servers.kubernetes.daemons import which
from tests.servers.kubernetes.prepare import debian_packages
from tests.servers.kubernetes.server import KubernetesServer

_SOURCE, _MODULE = HERE / "kube-router", "github.com/cloudnativelabs/kube-router/v2"


def kube_router() -> tuple[Path | None, str]:
    """The program, built in some minutes when it is not in the cache, or ``None`` and the reason."""

    def make(program: Path) -> None:
        go, reason = go_program()
        if go is None:
            raise RuntimeError(reason)
        env = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"}
        build = ["nice", "-n", "10", go, "build", "-trimpath", "-ldflags", "-s -w"]
        run([*build, "-o", str(program), f"{_MODULE}/cmd/kube-router"], cwd=_SOURCE, env=env)

    version = re.search(rf"{_MODULE} v([\d.]+)", (_SOURCE / "go.mod").read_text())
    assert version
    try:
        debian_packages({"ipset": "ipset"})
        return cached(f"kube_router-{version[1]}-{SYSTEM}-{key_of(_SOURCE)}", make), ""
    except RuntimeError as error:
        return None, str(error)


@contextmanager
def policies_enforced(server: KubernetesServer, program: Path) -> Iterator[None]:
    """As long as this lasts. What comes from the node itself is let through, as by all such plugins.

    :param program: of :func:`kube_router`.
    """
    options = {
        "run-router": "false",
        "run-service-proxy": "false",
        "run-firewall": "true",
        "kubeconfig": server.kubeconfig,
        "hostname-override": server.node,
        "service-cluster-ip-range": server.net.services,
        "health-port": 0,
    }
    filters = run([*server.inside(), which("iptables-save"), "-t", "filter"])
    server.daemons.launch("kube-router", [*server.inside(), str(program), *(f"--{o}={v}" for o, v in options.items())])
    try:
        yield
    finally:
        # It leaves its chains and sets, so that pods are guarded while it is restarted.
        server.daemons.end("kube-router", signal.SIGTERM)
        server.run_inside([which("iptables-restore")], input=filters)
        run([*server.inside(), which("ipset"), "destroy"])  # fails where a chain still uses one
