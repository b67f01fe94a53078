"""The network of a cluster: a bridge on this machine, and its nodes at it. It leads nowhere else."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
from collections.abc import Collection
from pathlib import Path

from tests.servers.kubernetes.cached import run
from tests.servers.kubernetes.daemons import which


def bridge_name(folder: Path, cluster_uuid: str) -> str:
    """The bridge of this cluster of the nodes in ``folder``."""
    return f"dp{hashlib.sha256(f'{folder} {cluster_uuid}'.encode()).hexdigest()[:8]}"


def ensure_bridge(name: str, folder: Path) -> ipaddress.IPv4Network:
    """Make it, with a network that nobody on this machine has, unless it is there. The caller holds the lock.

    :param folder: noted on it, so that :func:`bridges` finds it.
    """
    if there(name):
        (link,) = json.loads(run([which("ip"), "-json", "-4", "address", "show", "dev", name]))
        return ipaddress.IPv4Interface(f"{link['addr_info'][0]['local']}/24").network
    network = _free()
    run([which("ip"), "link", "add", name, "type", "bridge"])
    run([which("ip"), "address", "add", f"{network[1]}/24", "dev", name])
    run([which("ip"), "link", "set", name, "alias", _alias(folder), "up"])
    return network


def bridges(folder: Path) -> list[str]:
    """All that were made for the nodes in this folder."""
    links = json.loads(run([which("ip"), "-json", "link", "show", "type", "bridge"]))
    return [link["ifname"] for link in links if link.get("ifalias") == _alias(folder)]


def free_address(network: ipaddress.IPv4Network, taken: Collection[str]) -> str:
    """The first is this machine's."""
    return next(str(host) for host in list(network.hosts())[1:] if str(host) not in taken)


def connect(bridge: str, address: str, holder: int) -> None:
    """Lay a cable from the bridge to the network namespace of the process ``holder``."""
    ip = which("ip")
    cable = f"{bridge[:10]}{address.rpartition('.')[2]}"
    run([ip, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(holder)])
    run([ip, "link", "set", cable, "master", bridge, "up"])
    # No default route: a private network without Cloud NAT.
    inside = f"{ip} address add {address}/24 dev eth0 && {ip} link set eth0 up"
    run([which("nsenter"), "-n", "-t", str(holder), "sh", "-c", inside])


def remove_bridge(name: str) -> None:
    """Cables go with the namespaces of their nodes. Already gone is fine."""
    if there(name):
        run([which("ip"), "link", "delete", name])


def there(interface: str) -> bool:
    return os.path.exists(f"/sys/class/net/{interface}")


def _alias(folder: Path) -> str:
    return str(folder)[-255:]  # the kernel takes no more


def _free() -> ipaddress.IPv4Network:
    taken = []
    for route in json.loads(run([which("ip"), "-json", "route", "show", "table", "all"])):
        try:
            taken.append(ipaddress.IPv4Network(route.get("dst", "")))
        except ValueError:  # "default" and version 6
            continue
    for number in range(150, 200):
        wanted = ipaddress.IPv4Network(f"10.{number}.0.0/24")
        if not any(network.overlaps(wanted) for network in taken):
            return wanted
    raise OSError("no free network from 10.150.0.0/24 to 10.199.0.0/24")
