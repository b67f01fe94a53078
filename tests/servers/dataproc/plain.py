"""Nodes that are folders: no host of their own, only processes of this machine.

An initialization action is downloaded and run by bash. It and the drivers find in their environment what a node would
ask its metadata server: ``DATAPROC_METADATA``, a JSON object of the attributes. Two nodes share the machine's ports.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.dataproc import processes
from tests.servers.dataproc.nodes import ActionResult, InitializationAction, Node
from tests.servers.dataproc.objects import Objects

NODE, DRIVER = "DATAPROC_NODE_FOLDER", "DATAPROC_DRIVER"


class PlainNodes:
    """:param folder: holds a folder for every node."""

    def __init__(self, folder: Path, gcs_url: str) -> None:
        self._folder, self._gcs_url = folder, gcs_url
        self._children: set[Process] = set()

    async def start(self, node: Node) -> list[ActionResult]:
        await self.stop(node.name)
        home = self._folder / node.name
        home.mkdir(parents=True)
        environment = {"DATAPROC_METADATA": json.dumps(dict(node.metadata)), "HOSTNAME": node.name}
        (home / "environment.json").write_text(json.dumps(environment))
        results: list[ActionResult] = []
        async with Objects(self._gcs_url) as objects:
            for number, action in enumerate(node.actions):
                script = home / f"initialization-action-{number}"
                script.write_bytes(await objects.read(action.uri))
                results.append(await self._act(node.name, script, action))
                if results[-1].exit_code != 0:
                    break
        return results

    async def stop(self, name: str) -> None:
        await self.halt(name)
        shutil.rmtree(self._folder / name, ignore_errors=True)

    async def halt(self, name: str) -> None:
        while pids := processes.find(NODE, str(self._folder / name)):
            processes.send(pids, signal.SIGKILL)
            await self._reap()

    async def resume(self, name: str) -> None:
        """Nothing starts at boot here."""

    async def alive(self, name: str) -> bool:
        return (self._folder / name).is_dir()

    async def busy(self, name: str) -> bool:
        return False

    async def run(self, name: str, driver: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        # Wherever images have theirs: here is one Python.
        command = [sys.executable if Path(word).name == "python" else word for word in argv]
        await self._spawn(name, command, {DRIVER: driver, **env})

    async def running(self, name: str, driver: str) -> bool:
        await self._reap()
        return bool(processes.find(DRIVER, driver))

    async def end(self, name: str, driver: str, how: signal.Signals) -> None:
        processes.send(processes.find(DRIVER, driver), how)

    async def _act(self, name: str, script: Path, action: InitializationAction) -> ActionResult:
        output = script.with_suffix(".output")
        # Not a pipe: what the action leaves in the background may write on, and nobody must wait for its end.
        process = await self._spawn(name, ["/bin/bash", str(script)], {}, output)
        try:
            code: int | None = await asyncio.wait_for(process.wait(), action.timeout)
        except asyncio.TimeoutError:
            code = None
            processes.send(processes.find(NODE, str(self._folder / name)), signal.SIGKILL)
        return ActionResult(code, output.read_bytes())

    async def _spawn(
        self, name: str, command: Sequence[str], env: Mapping[str, str], output: Path | None = None
    ) -> Process:
        home = self._folder / name
        everything = {**os.environ, **json.loads((home / "environment.json").read_text()), NODE: str(home), **env}
        target = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=home, env=everything, stdin=DEVNULL, stdout=target, stderr=target, start_new_session=True
            )
        finally:
            os.close(target)
        self._children.add(process)
        return process

    async def _reap(self) -> None:
        await asyncio.sleep(0.02)
        self._children = {child for child in self._children if child.returncode is None}
