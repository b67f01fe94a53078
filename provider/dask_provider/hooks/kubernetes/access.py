"""Who we are at which API server: from an Airflow connection, a kubeconfig or a pod's service account to `Access`.

Reads what connections of the cncf.kubernetes provider hold without importing it, which costs seconds in every task.
Fields of a kubeconfig: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import json
import os
import secrets
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from dask_provider._compat import BaseHook, connection_exists
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes.tokens import ExecToken, FileToken, absolute_path, no_token

#: where a pod finds its service account
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
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
    :param inside: whether this process runs in a pod of that cluster.
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
    inside: bool = False
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def __repr__(self) -> str:
        return f"Access({self.server!r}, source={self.source!r}, namespace={self.namespace!r})"

    def tls(self) -> ssl.SSLContext:
        """How to speak TLS with the server; made once for equal accesses.

        :raises ssl.SSLError: when a certificate or key cannot be used.
        """
        return _tls(self.ca_data, self.verify, self.client_cert, self.client_key)


def load_access(conn_id: str | None, *, allow_exec: bool = True) -> Access:
    """The access that an Airflow connection of type ``kubernetes`` describes. Blocks.

    Without a connection, or with one that says nothing: the service account of the pod that this is, else the
    kubeconfig of ``KUBECONFIG`` or ``~/.kube/config``.

    :param allow_exec: whether a kubeconfig may name a program that gets the credentials.
    :raises InvalidInput: naming the field that cannot be used.
    """
    if conn_id is None:
        fields = _Fields("the environment", {})
    else:
        if not connection_exists(conn_id):
            raise InvalidInput("conn_id", conn_id, "an Airflow connection that exists")
        connection = BaseHook.get_connection(conn_id)
        if connection.conn_type not in ("kubernetes", "", None):
            raise InvalidInput(f"connection {conn_id}: conn_type", connection.conn_type, "kubernetes")
        fields = _Fields(f"connection {conn_id}", connection.extra_dejson)
    chosen = [name for name in ("kube_config_path", "kube_config") if fields.get(name)]
    chosen += ["in_cluster"] * fields.flag("in_cluster")
    if len(chosen) > 1:
        raise InvalidInput(f"{fields.where}: extra", chosen, "one of them")
    context = fields.text("cluster_context")
    if chosen == ["in_cluster"]:
        return _in_cluster(fields)
    if path := fields.text("kube_config_path"):
        found = [Path(path).expanduser()]
        return _of_kubeconfig(fields, _Kubeconfig.of_files(f"{fields.where}: kube_config_path", found), allow_exec)
    if chosen:
        field_name = f"{fields.where}: kube_config"
        parsed = _parsed(fields.get("kube_config"), field_name)
        return _of_kubeconfig(fields, _Kubeconfig(field_name, [(parsed, None)]), allow_exec)
    if context is None and os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return _in_cluster(fields)
    listed = os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [Path(name).expanduser() for name in listed.split(os.pathsep) if name]
    found = [path for path in paths if path.exists()]
    if not found:
        allowed = "a pod with a service account, a kubeconfig in KUBECONFIG or ~/.kube/config, or an Airflow connection"
        raise InvalidInput("conn_id", conn_id, f"{allowed} that has one; there is no {' or '.join(map(str, paths))}")
    return _of_kubeconfig(fields, _Kubeconfig.of_files(":".join(map(str, found)), found), allow_exec)


@dataclass(frozen=True)
class _Fields:
    """The extra of a connection, under the names that the cncf provider gives its fields."""

    where: str
    extra: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """The plain name counts, even if empty, before that of Airflow older than 2.3."""
        return (self.extra[name] if name in self.extra else self.extra.get(f"extra__kubernetes__{name}")) or None

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"{self.where}: {name}", value, "text")
        return value

    def flag(self, name: str) -> bool:
        value = self.get(name)
        known = {"none": False, "false": False, "0": False, "true": True, "1": True}
        if str(value).lower() not in known:
            raise InvalidInput(f"{self.where}: {name}", value, "true or false")
        return known[str(value).lower()]


class _Kubeconfig:
    """One or several kubeconfigs; of entries with the same name the first counts, as with kubectl.

    :param sources: what they hold, with the folder that relative paths start from, if they may be relative.
    """

    def __init__(self, where: str, sources: list[tuple[dict[str, Any], Path | None]]) -> None:
        self.where, self.sources = where, sources

    @classmethod
    def of_files(cls, where: str, paths: list[Path]) -> _Kubeconfig:
        return cls(
            where, [(_parsed(_read(path, where).decode(errors="replace"), where), path.parent) for path in paths]
        )

    def current(self) -> str:
        for content, _ in self.sources:
            if name := content.get("current-context"):
                return str(name)
        raise InvalidInput(
            f"{self.where}: current-context", None, f"one of {self._names('contexts')}; or cluster_context"
        )

    def entry(self, kind: str, name: Any, named_by: str) -> tuple[dict[str, Any], Path | None]:
        """The entry of a list such as ``users``."""
        for content, folder in self.sources:
            for item in content.get(kind) or ():
                if isinstance(item, dict) and item.get("name") == name:
                    inner = item.get(kind.removesuffix("s"))
                    return (inner if isinstance(inner, dict) else {}), folder
        raise InvalidInput(f"{self.where}: {named_by}", name, f"one of {kind}: {self._names(kind)}")

    def _names(self, kind: str) -> str:
        items = [item for content, _ in self.sources for item in content.get(kind) or () if isinstance(item, dict)]
        return ", ".join(str(item.get("name")) for item in items) or "(there is none)"


def _of_kubeconfig(fields: _Fields, config: _Kubeconfig, allow_exec: bool) -> Access:
    wanted = fields.text("cluster_context")
    named_by = "current-context" if wanted is None else "cluster_context"
    context_name = wanted or config.current()
    context, _ = config.entry("contexts", context_name, named_by)
    where = f"{config.where}: context {context_name}"
    cluster, folder = config.entry("clusters", context.get("cluster"), f"context {context_name}: cluster")
    server = _checked_url(f"{where}: server", cluster.get("server"))
    ca = _data(f"{where}: certificate-authority", cluster, "certificate-authority", folder)
    insecure = bool(cluster.get("insecure-skip-tls-verify")) or fields.flag("disable_verify_ssl")
    user: dict[str, Any] = {}
    if context.get("user"):  # none is needed for `kubectl proxy`
        user, folder = config.entry("users", context["user"], f"context {context_name}: user")
    where = f"{config.where}: user {context.get('user')}"
    certificate = _data(f"{where}: client-certificate", user, "client-certificate", folder)
    key = _data(f"{where}: client-key", user, "client-key", folder)
    if bool(certificate) != bool(key):
        raise InvalidInput(where, "client-certificate or client-key only", "both or none")
    token, forget = _token_of(where, user, cluster, folder, allow_exec)
    proxy = cluster.get("proxy-url")
    return _checked(
        where,
        Access(
            server=server,
            source=f"{fields.where}, user {context.get('user')} of context {context_name}",
            namespace=fields.text("namespace") or context.get("namespace"),
            ca_data=None if insecure else ca,
            verify=not insecure,
            server_name=cluster.get("tls-server-name"),
            client_cert=certificate,
            client_key=key,
            token=token,
            forget=forget,
            headers=_headers(where, user),
            proxy=_checked_url(f"{where}: proxy-url", proxy) if proxy else environment_proxy(server),
            keepalive=not fields.flag("disable_tcp_keepalive"),
            key=_key(cluster, user, str(folder), certificate, ca, insecure, fields.flag("disable_tcp_keepalive")),
        ),
    )


def _in_cluster(fields: _Fields) -> Access:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token, ca = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"
    missing = [str(path) for path in (token, ca) if not path.exists()] + ["KUBERNETES_SERVICE_HOST"] * (not host)
    if missing or not host:
        allowed = f"true only in a pod with a service account; here is no {' and no '.join(missing)}"
        raise InvalidInput(f"{fields.where}: in_cluster", True, allowed)
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    own = SERVICE_ACCOUNT / "namespace"
    insecure = fields.flag("disable_verify_ssl")
    return _checked(
        str(ca),
        Access(
            server=server,
            source=f"{fields.where}, the service account of this pod",
            namespace=fields.text("namespace") or (own.read_text().strip() if own.exists() else None),
            ca_data=None if insecure else ca.read_bytes(),
            verify=not insecure,
            token=FileToken(token),
            proxy=environment_proxy(server),
            keepalive=not fields.flag("disable_tcp_keepalive"),
            inside=True,
            key=_key(server, insecure, fields.flag("disable_tcp_keepalive")),
        ),
    )


def _token_of(
    where: str, user: Mapping[str, Any], cluster: Mapping[str, Any], folder: Path | None, allow_exec: bool
) -> tuple[Callable[[], Awaitable[str | None]], Callable[[], None]]:
    """How a user gets a token, and how to make it forget one."""
    if user.get("auth-provider"):
        allowed = "token, tokenFile, client-certificate or exec: Kubernetes has removed auth-provider"
        raise InvalidInput(f"{where}: auth-provider", HIDDEN, allowed)
    if name := user.get("tokenFile"):  # before token, as in kubectl
        path = absolute_path(f"{where}: tokenFile", name, folder)
        _read(path, f"{where}: tokenFile")
        return FileToken(path), lambda: None
    if token := user.get("token"):
        _check_line(f"{where}: token", token)

        async def fixed() -> str | None:
            return str(token)

        return fixed, lambda: None
    if plugin := user.get("exec"):
        if not allow_exec:
            raise InvalidInput(
                f"{where}: exec", HIDDEN, "token, tokenFile or client-certificate: no program is run here"
            )
        exec_token = ExecToken(f"{where}: exec", plugin, cluster, folder)
        return exec_token, exec_token.forget
    return no_token, lambda: None


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


def _checked(where: str, access: Access) -> Access:
    """The same, if its certificates can be used."""
    try:
        access.tls()
    except (ssl.SSLError, UnicodeError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        problem = InvalidInput(f"{where}: certificates", HIDDEN, f"PEM that belongs together ({reason})")
        raise problem from None
    return access


def _checked_url(name: str, value: Any) -> str:
    url = urlsplit(value if isinstance(value, str) else "")
    if url.scheme not in ("http", "https") or not url.hostname:
        raise InvalidInput(name, value if "@" not in str(value) else HIDDEN, "a URL such as https://10.0.0.1:6443")
    if name.endswith("server") and url.username:
        raise InvalidInput(name, HIDDEN, "a URL without a user")
    return str(value).rstrip("/")


def _headers(where: str, user: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """User name and password, and whom to act as."""
    headers = []
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}".encode()
        headers.append(("Authorization", f"Basic {base64.b64encode(pair).decode()}"))
    if user.get("as"):
        headers.append(("Impersonate-User", _check_line(f"{where}: as", user["as"])))
    if user.get("as-uid"):
        headers.append(("Impersonate-Uid", _check_line(f"{where}: as-uid", user["as-uid"])))
    groups = user.get("as-groups") or ()
    headers += [("Impersonate-Group", _check_line(f"{where}: as-groups", group)) for group in groups]
    if user.get("as-user-extra"):
        raise InvalidInput(f"{where}: as-user-extra", HIDDEN, "as, as-uid and as-groups")
    return tuple(headers)


def _check_line(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise InvalidInput(name, HIDDEN, "one line of text")
    return value


def _data(name: str, entry: Mapping[str, Any], key: str, folder: Path | None) -> bytes | None:
    """PEM that is given as base64 (``…-data``, which counts first) or as a file."""
    if text := entry.get(f"{key}-data"):
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, AttributeError, ValueError):
            problem = InvalidInput(f"{name}-data", HIDDEN, "base64")
        raise problem
    if path := entry.get(key):
        return _read(absolute_path(name, path, folder), name)
    return None


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(name, str(path), f"a file that can be read on this host ({error.strerror})") from None


def _parsed(content: Any, name: str) -> dict[str, Any]:
    """A kubeconfig from text, JSON if it is, or as it is."""
    place = ""
    if isinstance(content, str):
        text, content = content, None
        try:
            content = json.loads(text)
        except ValueError:
            import yaml  # only now: not everybody needs it

            try:
                content = yaml.safe_load(text)
            except yaml.YAMLError as error:
                mark = getattr(error, "problem_mark", None)
                place = f" (line {mark.line + 1})" if mark else ""
    # Outside the except: the parser's error quotes the text, and with it perhaps a secret.
    if not isinstance(content, dict) or not all(
        isinstance(content.get(kind) or [], list) for kind in ("clusters", "users", "contexts")
    ):
        raise InvalidInput(name, HIDDEN, f"a kubeconfig as JSON or YAML{place}")
    return content


def _key(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
