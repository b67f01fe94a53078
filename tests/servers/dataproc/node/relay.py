"""Brings a port of this machine's loopback interface to a node's, so that both use the same URL for one server.

``relay.py PID PORT``: ends when the process ends that holds the node's network namespace.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys

_CLONE_NEWNET = 0x40000000


def main(pid: int, port: int) -> None:
    asyncio.run(_serve(pid, _listen(pid, port), port))


def _listen(pid: int, port: int) -> socket.socket:
    """A socket stays in the namespace where it was made."""
    here, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    _enter(there)
    try:
        return socket.create_server(("127.0.0.1", port))
    finally:
        _enter(here)


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


async def _serve(pid: int, listener: socket.socket, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, here = await asyncio.open_connection("127.0.0.1", port)
        except OSError:  # the server is down: so is the connection
            writer.close()
            return
        await asyncio.gather(_pump(reader, here), _pump(there, writer))

    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(os.pidfd_open(pid), gone.set)
    async with await asyncio.start_server(connected, sock=listener):
        await gone.wait()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
