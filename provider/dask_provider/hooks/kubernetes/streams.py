"""What the API server sends bit by bit: lines of a log, events of a watch."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator

import aiohttp

from dask_provider.hooks.kubernetes.errors import ApiError
from dask_provider.hooks.kubernetes.objects import Object
from dask_provider.hooks.kubernetes.times import nanoseconds

#: bytes of one log line; what is longer is cut
LONGEST_LINE = 256 * 1024
#: bytes of one event of a watch; etcd keeps no object of more than 1.5 MB
LONGEST_EVENT = 32 * 2**20


async def lines(response: aiohttp.ClientResponse, longest: int, *, rest: bool = False) -> AsyncIterator[bytes]:
    """Whole lines, split at nothing but LF. Of one that is too long the end is left out.

    :param rest: also what follows the last LF, once the stream has come to its end in good order.
    """
    part = bytearray()
    async for chunk in response.content.iter_any():
        *ended, begun = chunk.split(b"\n")
        for piece in ended:
            part += piece[: longest - len(part)]
            yield bytes(part)
            part.clear()
        part += begun[: longest - len(part)]
    if part and rest:
        yield bytes(part)


def event_of(line: bytes) -> Object:
    """An event of a watch.

    :raises ApiError: when it is none.
    """
    try:
        event: Object = json.loads(line)
        event["type"], event["object"]
    except (ValueError, KeyError, TypeError):
        raise ApiError(502, "NoJson", f"a watch says {line[:100].decode(errors='replace')!r}") from None
    return event


def log_line(line: bytes) -> tuple[int, str]:
    """Time and text of a line of a log; the time is 0 for a remark of the node's, which has none."""
    stamp, _, text = line.partition(b" ")
    try:
        return nanoseconds(stamp.decode(errors="replace")), text.decode(errors="replace")
    except ValueError:
        return 0, line.decode(errors="replace")


def keep_alive(response: aiohttp.ClientResponse) -> None:
    """Have the kernel notice within a minute that the other side of a silent stream is gone."""
    transport = response.connection.transport if response.connection else None
    stream = transport.get_extra_info("socket") if transport else None
    if stream is not None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
