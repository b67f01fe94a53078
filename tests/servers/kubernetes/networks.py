"""The networks of a node: a pair of interfaces to the machine, and routes to its pods and services."""

from __future__ import annotations

import ipaddress
import json
import time
from dataclasses import dataclass
from pathlib import Path

from tests.servers.kubernetes.cached import CACHE, locked, run
from tests.servers.kubernetes.daemons import which


@dataclass(frozen=True)
class Network:
    """Everything of one cluster lies in ``10.<number>.0.0/16``."""

    number: int

    @property
    def host(self) -> str:
        return f"10.{self.number}.0.1"

    @property
    def address(self) -> str:
        """The node, and its API server."""
        return f"10.{self.number}.0.2"

    @property
    def pods(self) -> str:
        return f"10.{self.number}.1.0/24"

    @property
    def pods_gateway(self) -> str:
        return f"10.{self.number}.1.1"

    @property
    def services(self) -> str:
        return f"10.{self.number}.128.0/17"

    @property
    def api_service(self) -> str:
        return f"10.{self.number}.128.1"

    @property
    def dns(self) -> str:
        return f"10.{self.number}.128.10"


def connect(interface: str, holder: int) -> Network:
    """Choose a network that nobody on this machine has, and lay it to the namespace of the process ``holder``."""
    ip, nsenter = which("ip"), which("nsenter")
    with locked(CACHE / "networks.lock"):
        network = _free()
        run([ip, "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", str(holder)])
        run([ip, "address", "add", f"{network.host}/24", "dev", interface])
        run([ip, "link", "set", interface, "up"])
        inside = f"{ip} address add {network.address}/24 dev eth0 && {ip} link set eth0 up && {ip} link set lo up"
        inside += f" && {ip} route add default via {network.host} && echo 1 >/proc/sys/net/ipv4/ip_forward"
        run([nsenter, "-n", "-t", str(holder), "sh", "-c", inside])
        for target in (network.pods, network.services):
            run([ip, "route", "add", target, "via", network.address])
    return network


def disconnect(interface: str) -> None:
    """Remove the interface and with it the routes. Its other end goes with the namespace."""
    path, until = Path("/sys/class/net") / interface, time.monotonic() + 10
    while path.exists():
        try:
            run([which("ip"), "link", "delete", interface])
        except RuntimeError:  # the kernel, which clears the namespace away in its own time, may have been faster
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _free() -> Network:
    routes = json.loads(run([which("ip"), "-json", "route", "show", "table", "all"]))
    taken = [_parsed(route.get("dst", "")) for route in routes]
    for number in range(200, 250):
        wanted = ipaddress.ip_network(f"10.{number}.0.0/16")
        if not any(network is not None and network.overlaps(wanted) for network in taken):
            return Network(number)
    raise RuntimeError("no free network from 10.200.0.0/16 to 10.249.0.0/16")


def _parsed(target: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(target)
    except ValueError:  # "default" and version 6
        return None
