"""What the emulator asks of whoever makes its nodes."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class InitializationAction:
    """A script that a node runs once, when it starts.

    :param uri: ``gs://`` URI.
    :param timeout: seconds that it may take.
    """

    uri: str
    timeout: float


@dataclass(frozen=True)
class Node:
    """An instance to start.

    :param name: of the instance; its host name.
    :param role: ``Master`` or ``Worker``.
    :param master: name of the first master.
    :param machine_type: short, ``n2-standard-4``.
    :param metadata: the instance's attributes at the metadata server: the user's own and Dataproc's ``dataproc-...``.
    :param actions: in order; those after one that fails do not run.
    :param properties: of the cluster's daemons, ``yarn:yarn.nodemanager.…``.
    """

    project: str
    region: str
    zone: str
    cluster: str
    cluster_uuid: str
    name: str
    role: str
    master: str
    machine_type: str
    preemptible: bool
    metadata: Mapping[str, str]
    actions: Sequence[InitializationAction]
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ActionResult:
    """How an initialization action went.

    :param exit_code: ``None``: it did not end in its time and was killed.
    :param output: what it wrote, standard output and error together.
    """

    exit_code: int | None
    output: bytes


class Nodes(Protocol):
    """Makes, asks and removes nodes.

    One is made by ``factory(folder, gcs_url)``: a folder for whatever it must remember, and the URL of the GCS server.
    Nodes and drivers outlive the emulator's process: one that is killed and started again makes its ``Nodes`` anew with
    the same folder and finds them. Names of instances are unique; a driver is known by the name of its node and an id
    that no other driver ever has.
    """

    async def start(self, node: Node) -> list[ActionResult]:
        """Start an instance and run its initialization actions, one result for each that ran.

        What an action left running belongs to the node. An instance of this name that is there already is stopped
        first: the emulator was killed while it started. Cancelled: the emulator stops the node.

        :raises OSError: the instance cannot be had at all.
        """

    async def stop(self, name: str) -> None:
        """End all processes of a node, its drivers too, and remove what it kept. Already gone is fine."""

    async def halt(self, name: str) -> None:
        """Power it off: its processes end, its disk stays."""

    async def resume(self, name: str) -> None:
        """Power it on again: what starts at boot starts, initialization actions do not run again."""

    async def alive(self, name: str) -> bool:
        """Whether the instance is still there. One without any process of its own may be."""

    async def busy(self, name: str) -> bool:
        """Whether YARN containers run on it: a graceful decommission waits for these."""

    async def run(self, name: str, driver: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a job's driver on a node and return.

        ``argv`` names files below the emulator's own state folder, which the driver must find and may write under
        these very paths; ``python`` at its place stands for the node's own Python. The caller cares for output and exit
        code. ``env`` comes on top of what the node gives every process.

        :raises OSError: it cannot be started: also, there is no such node any more.
        """

    async def running(self, name: str, driver: str) -> bool:
        """Whether a process of this driver lives."""

    async def end(self, name: str, driver: str, how: signal.Signals) -> None:
        """Signal all processes of a driver. Already gone is fine."""
