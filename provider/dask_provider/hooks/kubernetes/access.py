"""Who we are at which API server: what every request needs to know."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes.tokens import no_token

#: shown in place of what may be a secret
HIDDEN = "(not shown)"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Access:
    """Who we are at which API server. Holds secrets: it stays in the process that made it.

    :param server: URL of the API server.
    :param source: where this comes from, in words for messages.
    :param namespace: the default one.
    :param ca_data: PEM of the authorities that may sign the server's certificate; default: those of this host.
    :param verify: whether the server's certificate is checked at all.
    :param server_name: the name that its certificate must be for, if not the one in the URL.
    :param client_cert: PEM of our certificate.
    :param client_key: PEM of its key.
    :param token: the bearer token to use now.
    :param forget: called when the server did not accept the token; the next one must be a new one.
    :param headers: more headers for each request.
    :param proxy: URL of an HTTP proxy.
    :param keepalive: whether idle connections are probed.
    :param key: equal for those who may share what one of them has read; a hash.
    """

    server: str
    source: str
    namespace: str | None = None
    ca_data: bytes | None = None
    verify: bool = True
    server_name: str | None = None
    client_cert: bytes | None = None
    client_key: bytes | None = None
    token: Callable[[], Awaitable[str | None]] = no_token
    forget: Callable[[], None] = lambda: None
    headers: tuple[tuple[str, str], ...] = ()
    proxy: str | None = None
    keepalive: bool = True
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def __repr__(self) -> str:
        return f"Access({self.server!r}, source={self.source!r}, namespace={self.namespace!r})"

    def tls(self) -> ssl.SSLContext:
        """How to speak TLS with the server; made once for equal accesses.

        :raises ssl.SSLError: when a certificate or key cannot be used.
        """
        return _tls(self.ca_data, self.verify, self.client_cert, self.client_key)

    def checked(self, where: str) -> Access:
        """The same.

        :param where: whose certificates they are, for the message.
        :raises InvalidInput: when they cannot be used.
        """
        try:
            self.tls()
        except (ssl.SSLError, UnicodeError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            problem = InvalidInput(f"{where}: certificates", HIDDEN, f"PEM that belongs together ({reason})")
            raise problem from None
        return self


def environment_proxy(server: str) -> str | None:
    """The proxy that ``HTTPS_PROXY`` and ``NO_PROXY`` name for a server.

    Not the standard library's: inside clusters ``NO_PROXY`` holds networks, which it does not know.
    """
    url, proxies = urlsplit(server), getproxies_environment()
    host = url.hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return None
    for item in proxies.get("no", "").replace(" ", "").split(","):
        name = item.rpartition(":")[0] if item.count(":") == 1 else item
        if name == "*" or (name and (host == name or host.endswith("." + name.lstrip("*.")))):
            return None
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False):
                return None
        except ValueError:  # one of them is a name
            continue
    return proxies.get(url.scheme)


def shared_key(*parts: Any) -> str:
    """:attr:`Access.key` of all whose parts are equal."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


@lru_cache(maxsize=16)
def _tls(ca: bytes | None, verify: bool, certificate: bytes | None, key: bytes | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca.decode() if ca else None)
    if ca:
        # Python 3.13 is strict by default and refuses the authorities of many clusters, which name no key identifier.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate and key:
        _load_pair(context, certificate, key)
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """The ssl module reads files only: one in memory, elsewhere a private one that is gone at once."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        path, name = f"/proc/self/fd/{descriptor}", None
    else:
        descriptor, path = tempfile.mkstemp()
        name = path
    try:
        with open(descriptor, "wb") as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(path, password=lambda: b"")  # else it would ask on the terminal
    finally:
        if name:
            os.unlink(name)
