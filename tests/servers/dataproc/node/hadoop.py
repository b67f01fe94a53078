"""YARN on nodes, as Dataproc's images bring it: a ResourceManager on the master, a NodeManager on every worker."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers.dataproc.node.machines import size
from tests.servers.dataproc.nodes import Node
from tests.servers.kubernetes.cached import HERE
from tests.servers.yarn.jars import java_home
from tests.servers.yarn.settings import RM_PARTS, write_settings

#: where the ResourceManager listens, one for each of its parts: as everywhere
PORTS = (8032, 8030, 8031, 8033, 8088)
#: of a machine's memory, as Dataproc gives it to YARN
SHARE = 0.8
_CONF = "/etc/hadoop/conf"
_YARN_SH = HERE.parents[2] / "tests" / "servers" / "yarn" / "yarn.sh"
_UNIT = """[Unit]
Description=YARN {0}
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/yarn {0}
Restart=on-failure
RestartSec=1
TimeoutStopSec=5
StandardOutput=append:/var/log/hadoop-yarn-{0}.log
StandardError=append:/var/log/hadoop-yarn-{0}.log

[Install]
WantedBy=multi-user.target
"""


def prepare(folder: Path, node: Node, shared: Path, jars: Path) -> list[str]:
    """Write what ``node-init.sh`` copies into the node: settings, the program ``yarn``, units.

    :param shared: a folder that all nodes of the cluster see under this path: their file system.
    :param jars: Hadoop's.
    :returns: the units that run on this node.
    """
    cpus, memory = size(node.machine_type)
    for name in ("fs/user", "app-logs", "tmp"):
        (shared / name).mkdir(parents=True, exist_ok=True)
    write_settings(folder / "conf", shared, jars, PORTS, _others(node, jars, cpus, int(memory / 2**20 * SHARE)))
    variables = f"HADOOP_CONF_DIR={_CONF} YARN_CONF_DIR={_CONF} YARN_JARS={jars} JAVA_HOME={java_home()}"
    (folder / "yarn").write_text(f'#!/bin/sh\nexport {variables}\nexec {_YARN_SH} "$@"\n')
    alone = node.metadata.get("dataproc-worker-count") == "0"
    daemons = ["resourcemanager"] if node.role == "Master" else []
    daemons += ["nodemanager"] if node.role == "Worker" or alone else []
    for daemon in daemons:
        (folder / f"hadoop-yarn-{daemon}.service").write_text(_UNIT.format(daemon))
    return [f"hadoop-yarn-{daemon}" for daemon in daemons]


def _others(node: Node, jars: Path, cpus: int, memory: int) -> dict[str, dict[str, object]]:
    rm, nm = "yarn.resourcemanager", "yarn.nodemanager"
    yarn: dict[str, object] = {
        f"{rm}.hostname": node.master,
        f"{rm}.bind-host": "0.0.0.0",
        **{f"{rm}.{part}address": f"{node.master}:{port}" for part, port in zip(RM_PARTS, PORTS, strict=True)},
        # All nodes start at once: a NodeManager may be there before its ResourceManager.
        f"{rm}.connect.retry-interval.ms": 500,
        f"{nm}.hostname": node.name,
        f"{nm}.bind-host": "0.0.0.0",
        f"{nm}.resource.memory-mb": memory,
        f"{nm}.resource.cpu-vcores": cpus,
        f"{nm}.local-dirs": "/hadoop/yarn/nm-local-dir",
        f"{nm}.log-dirs": "/var/log/hadoop-yarn/userlogs",
        f"{nm}.env-whitelist": "JAVA_HOME,HADOOP_CONF_DIR,PATH,LANG,TZ",
        "yarn.scheduler.maximum-allocation-mb": memory,
        "yarn.scheduler.maximum-allocation-vcores": cpus,
        "yarn.application.classpath": f"{_CONF},{jars}/*",
    }
    others: dict[str, dict[str, object]] = {"yarn-site": yarn, "capacity-scheduler": {}, "core-site": {}}
    for name, value in node.properties.items():
        file, _, key = name.partition(":")
        for wanted in (file, f"{file}-site"):
            if wanted in others:
                others[wanted][key] = value
    return others


def ask(address: str, path: str) -> Any:
    """An answer of the ResourceManager at an address.

    :raises OSError: it does not answer.
    """
    url = f"http://{address}:{PORTS[-1]}/ws/v1/cluster/{path}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def nodes(address: str) -> dict[str, int]:
    """Containers of each node that takes some, by the node's name; none while nobody answers."""
    try:
        found = (ask(address, "nodes")["nodes"] or {}).get("node", [])
    except (OSError, ValueError):
        return {}
    running = [each for each in found if each["state"] == "RUNNING"]  # by their full names
    return {each["nodeHostName"].partition(".")[0]: int(each["numContainers"]) for each in running}


def is_up(address: str) -> bool:
    """Whether the ResourceManager takes applications."""
    try:
        return bool(ask(address, "info")["clusterInfo"]["haState"] == "ACTIVE")
    except (OSError, ValueError, KeyError):
        return False
