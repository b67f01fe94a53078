"""What Hadoop reads: core-site, yarn-site and capacity-scheduler of one machine."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

HOST = "127.0.0.1"
#: parts of the ResourceManager that listen, and of a NodeManager
RM_PARTS = ("", "scheduler.", "resource-tracker.", "admin.", "webapp.")
NODE_PARTS = ("", "localizer.", "webapp.", "collector-service.")
#: of each node
MEMORY_MB, VCORES = 6144, 8


def write_settings(
    folder: Path,
    state: Path,
    jars: Path,
    ports: Sequence[int],
    others: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Write all settings but those in which one node differs from another.

    :param ports: one for each of :data:`RM_PARTS`.
    :param others: what is otherwise, by file: ``core-site``, ``yarn-site`` or ``capacity-scheduler``.
    """
    folder.mkdir(parents=True)
    for name, settings in (
        ("core-site", _core(state)),
        ("yarn-site", _yarn(folder, state, jars, ports)),
        ("capacity-scheduler", _queues()),
    ):
        (folder / f"{name}.xml").write_text(_xml({**settings, **(others or {}).get(name, {})}))
    (folder / "log4j.properties").write_text(
        "log4j.rootLogger=INFO,console\n"
        "log4j.appender.console=org.apache.log4j.ConsoleAppender\n"
        "log4j.appender.console.target=System.err\n"
        "log4j.appender.console.layout=org.apache.log4j.PatternLayout\n"
        "log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n\n"
    )


def of_node(number: int, state: Path, ports: Sequence[int]) -> dict[str, object]:
    """In what a NodeManager differs from the others.

    :param ports: one for each of :data:`NODE_PARTS`.
    """
    listens = {
        f"yarn.nodemanager.{part}address": f"{HOST}:{port}" for part, port in zip(NODE_PARTS, ports, strict=True)
    }
    folders = {f"yarn.nodemanager.{what}-dirs": state / f"nm-{what}" / str(number) for what in ("local", "log")}
    return {**listens, **folders}


def _core(state: Path) -> dict[str, object]:
    return {
        # No HDFS: a named file system over a folder. With file:/// skein fails on a default without a host.
        "fs.defaultFS": "viewfs://cluster/",
        "fs.viewfs.mounttable.cluster.linkMergeSlash": f"file://{state}/fs/",
        "fs.viewfs.mounttable.cluster.homedir": "/user",
        "hadoop.tmp.dir": state / "tmp",
        "hadoop.http.staticuser.user": getpass.getuser(),
        "ipc.client.connect.max.retries": 3,
    }


def _yarn(folder: Path, state: Path, jars: Path, ports: Sequence[int]) -> dict[str, object]:
    rm, node = "yarn.resourcemanager", "yarn.nodemanager"
    scheduler = "org.apache.hadoop.yarn.server.resourcemanager.scheduler.capacity.CapacityScheduler"
    executor = "org.apache.hadoop.yarn.server.nodemanager.DefaultContainerExecutor"
    return {
        f"{rm}.hostname": HOST,
        f"{rm}.bind-host": HOST,
        **{f"{rm}.{part}address": f"{HOST}:{port}" for part, port in zip(RM_PARTS, ports, strict=True)},
        f"{rm}.scheduler.class": scheduler,
        # Containers are given out at the heartbeats of nodes, by default one a second.
        f"{rm}.nodemanagers.heartbeat-interval-ms": 200,
        f"{rm}.am.max-attempts": 1,
        f"{rm}.application-timeouts.monitor.interval-ms": 500,
        "yarn.scheduler.minimum-allocation-mb": 64,
        "yarn.scheduler.maximum-allocation-mb": MEMORY_MB,
        "yarn.scheduler.maximum-allocation-vcores": VCORES,
        f"{node}.hostname": HOST,
        f"{node}.bind-host": HOST,
        f"{node}.resource.memory-mb": MEMORY_MB,
        f"{node}.resource.cpu-vcores": VCORES,
        f"{node}.container-executor.class": executor,
        f"{node}.vmem-check-enabled": "false",
        f"{node}.disk-health-checker.max-disk-utilization-per-disk-percentage": 99.5,
        # With dask-yarn's scheduler on the loopback interface, too.
        f"{node}.env-whitelist": "JAVA_HOME,HADOOP_CONF_DIR,PATH,LANG,TZ,DASK_YARN__SCHEDULER__HOST",
        "yarn.log-aggregation-enable": "true",
        # With its own file:// address: `yarn logs` cannot read through viewfs.
        f"{node}.remote-app-log-dir": f"file://{state}/app-logs",
        "yarn.application.classpath": f"{folder},{jars}/*",
    }


def _queues() -> dict[str, object]:
    root, default = "yarn.scheduler.capacity.root", "yarn.scheduler.capacity.root.default"
    return {
        # An application master may take any share of a queue.
        "yarn.scheduler.capacity.maximum-am-resource-percent": 1.0,
        # Memory alone decides where there is room, as by default: vcores are only asked for.
        "yarn.scheduler.capacity.resource-calculator": "org.apache.hadoop.yarn.util.resource.DefaultResourceCalculator",
        "yarn.scheduler.capacity.node-locality-delay": -1,
        f"{root}.queues": "default",
        f"{default}.capacity": 100,
        f"{default}.state": "RUNNING",
        f"{default}.acl_submit_applications": "*",
        f"{default}.acl_administer_queue": "*",
    }


def _xml(settings: Mapping[str, object]) -> str:
    rows = [
        f"<property><name>{name}</name><value>{escape(str(value))}</value></property>"
        for name, value in settings.items()
    ]
    return "\n".join(['<?xml version="1.0"?>', "<configuration>", *rows, "</configuration>", ""])
