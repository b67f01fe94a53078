"""Machines and jobs of the emulated Dataproc that are nothing but delays."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.servers.dataproc.nodes import ActionResult, Node
from tests.servers.dataproc.plain import PlainNodes

DRIVER = Path(__file__).with_name("driver.py")


class DelayedNodes(PlainNodes):
    """Made at once, without any action: how long a cluster takes is the emulator's setting."""

    async def start(self, node: Node) -> list[ActionResult]:
        await super().start(replace(node, actions=()))
        return [ActionResult(0, b"") for _ in node.actions]

    async def run(self, name: str, driver: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """What stands behind Python runs in one that is up at once, and only takes its time."""
        at = next(number for number, word in enumerate(argv) if Path(word).name == "python")
        quick = [*argv[:at], sys.executable, "-I", "-S", str(DRIVER), self._gcs_url, *argv[at + 1 :]]
        await super().run(name, driver, quick, env)
