"""Tokens that somebody else keeps fresh: a file, or a program that a kubeconfig names."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes.times import seconds

#: seconds that an exec plugin of a kubeconfig may take
PLUGIN_SECONDS = 60.0
#: new credentials are fetched so many seconds before the old ones expire
MARGIN = 60.0


class NoCredentials(RuntimeError):
    """The credentials cannot be had now; the message names where from, and never shows one."""


async def no_token() -> str | None:
    """Of somebody who signs in by certificate, or not at all."""
    return None


class FileToken:
    """A token in a file, which somebody keeps fresh: read each time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def __call__(self) -> str | None:
        """:raises NoCredentials: when the file cannot be read."""
        try:
            token = self.path.read_text().strip()
        except (OSError, UnicodeError) as error:
            raise NoCredentials(f"the token file {self.path} cannot be read: {error}") from None
        if not token or not token.isprintable():
            raise NoCredentials(f"the token file {self.path} holds no token")
        return token


class ExecToken:
    """A token that a program of the user's gets, kept until it expires.

    https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
    """

    def __init__(self, where: str, plugin: Mapping[str, Any], cluster: Mapping[str, Any], folder: Path | None) -> None:
        plugin = plugin if isinstance(plugin, dict) else {}
        command = plugin.get("command")
        if not command or not isinstance(command, str):
            raise InvalidInput(f"{where}.command", command, "a program")
        if plugin.get("interactiveMode") == "Always":
            raise InvalidInput(f"{where}.interactiveMode", "Always", "IfAvailable or Never: nobody is there to answer")
        self._where = where
        if os.sep in command:
            command = str(absolute_path(f"{where}.command", command, folder))
        self._command = [command, *(str(argument) for argument in plugin.get("args") or ())]
        asked: dict[str, Any] = {"interactive": False}
        if plugin.get("provideClusterInfo"):
            asked["cluster"] = {name: value for name, value in cluster.items() if name != "extensions"}
        info = {"apiVersion": plugin.get("apiVersion"), "kind": "ExecCredential", "spec": asked}
        self._env = {str(item.get("name")): str(item.get("value", "")) for item in plugin.get("env") or ()}
        self._env["KUBERNETES_EXEC_INFO"] = json.dumps(info)
        self._hint = plugin.get("installHint") or ""
        self._token: str | None = None
        self._made = self._expires = 0.0
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def forget(self) -> None:
        """The server did not accept it. Of many requests that hear so at once only the first makes a new one."""
        if time.time() > self._made + 5:
            self._token = None

    async def __call__(self) -> str | None:
        """:raises NoCredentials: with what the program wrote to its error output."""
        loop = asyncio.get_running_loop()
        if self._running is None or self._running[0] is not loop:  # a lock belongs to one loop
            self._running = (loop, asyncio.Lock())
        async with self._running[1]:
            if self._token is None or time.time() > self._expires - MARGIN:
                self._token, self._expires = self._read(await self._run())
                self._made = time.time()
            return self._token

    async def _run(self) -> bytes:
        pipe = asyncio.subprocess.PIPE
        env = {**os.environ, **self._env}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=env
            )
        except OSError as error:
            raise NoCredentials(f"{self._where}: {self._command[0]}: {error.strerror}. {self._hint}".rstrip()) from None
        try:
            output, errors = await asyncio.wait_for(process.communicate(), PLUGIN_SECONDS)
        except asyncio.TimeoutError:
            message = f"{self._where}: {self._command[0]} did not end within {PLUGIN_SECONDS:g} s"
            raise NoCredentials(message) from None
        finally:
            if process.returncode is None:
                process.kill()
                with contextlib.suppress(asyncio.TimeoutError):  # its children may still hold the pipes
                    await asyncio.wait_for(process.wait(), 1)
        if process.returncode:
            said = errors.decode(errors="replace").strip()[-500:]
            message = f"{self._where}: {self._command[0]} ended with {process.returncode}: {said}"
            raise NoCredentials(message)
        return output

    def _read(self, output: bytes) -> tuple[str, float]:
        try:
            status = json.loads(output)["status"]
            token, until = status.get("token"), status.get("expirationTimestamp")
            # Without an end it holds for as long as the process runs, or the server takes it.
            expires = seconds(until) if until else float("inf")
        except (ValueError, KeyError, TypeError, AttributeError):
            message = f"{self._where}: {self._command[0]} did not print an ExecCredential"
            raise NoCredentials(message) from None  # without the output: it may be the token
        if not isinstance(token, str) or not token or not token.isprintable():
            what = "a certificate, not a token" if status.get("clientCertificateData") else "no token"
            raise NoCredentials(f"{self._where}: {self._command[0]} printed {what}")
        return token, expires


def absolute_path(name: str, path: Any, folder: Path | None) -> Path:
    absolute = (folder or Path()) / Path(str(path)).expanduser()
    if folder is None and not absolute.is_absolute():
        raise InvalidInput(name, path, "an absolute path, or its content as …-data")
    return absolute
