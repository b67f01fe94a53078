"""Stands for the node of pods that do not run: it answers for their logs, as a kubelet does, and never ends them.

The API server cannot tell the difference: a Node object names this address, and the certificate is signed by the
cluster's own authority.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"
NODE = "stand-in"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"


class Kubelet:
    """Holds every request for a log open.

    :ivar port: where it listens.
    :ivar streams: logs that somebody reads.
    """

    def __init__(self) -> None:
        self.port = 0
        self.streams: set[asyncio.StreamWriter] = set()
        self._every: float | None = None

    def write(self, every: float | None) -> None:
        """From now on each log gets a line every so many seconds; ``None``: it is silent."""
        self._every = every

    def node(self) -> dict[str, Any]:
        """The Node object."""
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE},
            "status": {
                "addresses": [{"type": "InternalIP", "address": HOST}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
                "conditions": [{"type": "Ready", "status": "True"}],
                "capacity": {"cpu": "100000", "memory": "100Ti", "pods": "100000"},
                "allocatable": {"cpu": "100000", "memory": "100Ti", "pods": "100000"},
            },
        }

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: a request for a log, which lasts until the reader goes."""
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_HEAD)
            await writer.drain()
            self.streams.add(writer)
            await reader.read()  # nothing more is sent: the end of the connection
        self.streams.discard(writer)
        writer.close()

    async def beat(self) -> None:
        """Writes, one log after the other, so that the lines of all are spread over the interval."""
        while True:
            every, streams = self._every, list(self.streams)
            if every is None or not streams:
                await asyncio.sleep(0.2)
                continue
            for writer in streams:
                line = f"{datetime.now(timezone.utc).isoformat().replace('+00:00', 'Z')} still at it\n".encode()
                with suppress(OSError):
                    writer.write(b"%x\r\n%s\r\n" % (len(line), line))
                await asyncio.sleep(every / len(streams))


@contextmanager
def stand_in(pki: Path) -> Iterator[Kubelet]:
    """A kubelet in a thread.

    :param pki: folder of the cluster's authority, ``ca.crt`` and ``ca.key``.
    """
    kubelet, loop = Kubelet(), asyncio.new_event_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(pki))
    server = loop.run_until_complete(asyncio.start_server(kubelet.answer, HOST, 0, ssl=context, backlog=2048))
    kubelet.port = server.sockets[0].getsockname()[1]
    beat = loop.create_task(kubelet.beat())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield kubelet
    finally:
        asyncio.run_coroutine_threadsafe(_end(kubelet, server, beat), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


async def _end(kubelet: Kubelet, server: asyncio.Server, beat: asyncio.Task[None]) -> None:
    server.close()
    beat.cancel()
    for writer in list(kubelet.streams):
        writer.transport.abort()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=10)


def _certificate(pki: Path) -> Path:
    """A file with certificate and key for this address."""
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{NODE}")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(HOST))]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    path = pki / "stand-in.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
