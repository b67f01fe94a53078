"""Kubeconfig files: of servers, users and contexts to the `Access` that one context gives.

Fields: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes.access import HIDDEN, Access, environment_proxy, shared_key
from dask_provider.hooks.kubernetes.tokens import ExecToken, FileToken, absolute_path, no_token


class Kubeconfig:
    """One or several kubeconfigs; of entries with the same name the first counts, as with kubectl.

    :param sources: what they hold, with the folder that relative paths start from, if they may be relative.
    """

    def __init__(self, where: str, sources: list[tuple[dict[str, Any], Path | None]]) -> None:
        self.where, self.sources = where, sources

    @classmethod
    def of_content(cls, where: str, content: Any) -> Kubeconfig:
        """One that is given as it is; its paths are absolute.

        :raises InvalidInput: when it is none.
        """
        return cls(where, [(_parsed(content, where), None)])

    @classmethod
    def of_files(cls, where: str, paths: list[Path]) -> Kubeconfig:
        """:raises InvalidInput: when one cannot be read, or is none."""
        return cls(
            where, [(_parsed(_read(path, where).decode(errors="replace"), where), path.parent) for path in paths]
        )

    def access(
        self, wanted: str | None, *, source: str, namespace: str | None, insecure: bool, keepalive: bool
    ) -> Access:
        """Whom a context makes us, at which server.

        :param wanted: name of the context; ``None``: the current one.
        :param source: where we were told so, for messages.
        :param namespace: in place of that of the context.
        :param insecure: do not check the server's certificate.
        :param keepalive: see :class:`Access`.
        :raises InvalidInput: naming the field that cannot be used.
        """
        named_by = "current-context" if wanted is None else "cluster_context"
        context_name = wanted or self._current()
        context, _ = self._entry("contexts", context_name, named_by)
        where = f"{self.where}: context {context_name}"
        cluster, folder = self._entry("clusters", context.get("cluster"), f"context {context_name}: cluster")
        server = _checked_url(f"{where}: server", cluster.get("server"))
        ca = _data(f"{where}: certificate-authority", cluster, "certificate-authority", folder)
        insecure = insecure or bool(cluster.get("insecure-skip-tls-verify"))
        user: dict[str, Any] = {}
        if context.get("user"):  # none is needed for `kubectl proxy`
            user, folder = self._entry("users", context["user"], f"context {context_name}: user")
        where = f"{self.where}: user {context.get('user')}"
        certificate = _data(f"{where}: client-certificate", user, "client-certificate", folder)
        key = _data(f"{where}: client-key", user, "client-key", folder)
        if bool(certificate) != bool(key):
            raise InvalidInput(where, "client-certificate or client-key only", "both or none")
        token, forget = _token_of(where, user, cluster, folder)
        proxy = cluster.get("proxy-url")
        return Access(
            server=server,
            source=f"{source}, user {context.get('user')} of context {context_name}",
            namespace=namespace or context.get("namespace"),
            ca_data=None if insecure else ca,
            verify=not insecure,
            server_name=cluster.get("tls-server-name"),
            client_cert=certificate,
            client_key=key,
            token=token,
            forget=forget,
            headers=_headers(where, user),
            proxy=_checked_url(f"{where}: proxy-url", proxy) if proxy else environment_proxy(server),
            keepalive=keepalive,
            key=shared_key(cluster, user, str(folder), certificate, ca, insecure, keepalive),
        ).checked(where)

    def _current(self) -> str:
        for content, _ in self.sources:
            if name := content.get("current-context"):
                return str(name)
        raise InvalidInput(
            f"{self.where}: current-context", None, f"one of {self._names('contexts')}; or cluster_context"
        )

    def _entry(self, kind: str, name: Any, named_by: str) -> tuple[dict[str, Any], Path | None]:
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


def _token_of(
    where: str, user: Mapping[str, Any], cluster: Mapping[str, Any], folder: Path | None
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
        exec_token = ExecToken(f"{where}: exec", plugin, cluster, folder)
        return exec_token, exec_token.forget
    return no_token, lambda: None


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
