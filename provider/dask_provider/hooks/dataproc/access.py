"""Who we are at Google: from an Airflow connection of type ``google_cloud_platform`` to `Access`.

Reads the usual fields of such a connection through google-auth alone; Airflow's own hook for it costs a second of CPU
in every task. Only what it alone can do (keys in Secret Manager, other identity providers) is left to it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_provider._compat import BaseHook, connection_exists
from dask_provider.errors import InvalidInput

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
#: fields by which only Airflow's own hook can sign in
_ONLY_AIRFLOW = ("key_secret_name", "idp_issuer_url")
_PREFIX = "extra__google_cloud_platform__"


class NoCredentials(RuntimeError):
    """No token can be had; the message names the connection, and never shows a secret."""


@dataclass(frozen=True, repr=False, eq=False)
class Access:
    """Holds secrets: it stays in the process that made it.

    :param source: where this comes from, in words for messages.
    :param project_id: the connection's project.
    :param credentials: of google-auth; ``None``: nobody, for servers that ask no questions.
    :param endpoint: URL of the Dataproc API instead of Google's own; field ``dataproc.endpoint`` of the connection.
    :param storage_endpoint: likewise of Cloud Storage; ``gcs.endpoint``.
    :param google_endpoint: likewise of all other APIs, which preflight asks; ``google.endpoint``.
    :param quota_project_id: project whose quota is used.
    """

    source: str
    project_id: str | None
    credentials: Any
    endpoint: str | None = None
    storage_endpoint: str | None = None
    quota_project_id: str | None = None
    google_endpoint: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _asked: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Access({self.source!r}, project_id={self.project_id!r})"

    async def token(self, *, fresh: bool = False) -> str | None:
        """The bearer token to use now; made anew when it is about to expire.

        :param fresh: the server did not take the last one.
        :raises NoCredentials: when Google gives none.
        :raises ConnectionError: when it does not answer.
        """
        if self.credentials is None:
            return None
        if fresh or not self.credentials.valid:
            loop = asyncio.get_running_loop()
            if loop not in self._asked:  # of many waits in a triggerer one asks, in one thread; all hear the answer
                refused = self.credentials.token if fresh else None
                self._asked[loop] = asyncio.ensure_future(asyncio.to_thread(self._refresh, refused))
                self._asked[loop].add_done_callback(lambda _: self._asked.pop(loop))
            await asyncio.shield(self._asked[loop])
        token: str = self.credentials.token
        return token

    def _refresh(self, refused: str | None) -> None:
        import google.auth.exceptions
        import google.auth.transport.urllib3
        import urllib3

        with self._lock:  # another loop may ask, too
            if self.credentials.valid and self.credentials.token != refused:
                return
            try:
                self.credentials.refresh(google.auth.transport.urllib3.Request(urllib3.PoolManager()))  # type: ignore[no-untyped-call]
            except google.auth.exceptions.TransportError as error:
                raise ConnectionError(f"{self.source}: nobody who gives tokens answers: {error}") from None
            except google.auth.exceptions.GoogleAuthError as error:
                forget()
                raise NoCredentials(f"{self.source}: Google gives no token: {error.args[0]}") from None


def load_access(conn_id: str) -> Access:
    """The access that an Airflow connection describes. Blocks; may ask the metadata server.

    Without key or configuration file in it: Application Default Credentials, as on Composer. Made once in a process,
    with its token, for as long as the connection and the files that it names stay as they are.

    :raises InvalidInput: naming the field that cannot be used.
    """
    if not connection_exists(conn_id):
        raise InvalidInput("conn_id", conn_id, "an Airflow connection that exists")
    connection = BaseHook.get_connection(conn_id)
    if connection.conn_type not in ("google_cloud_platform", "", None):
        allowed = "google_cloud_platform"
        raise InvalidInput(f"connection {conn_id}: conn_type", connection.conn_type, allowed)
    extra = {name.removeprefix(_PREFIX): value for name, value in connection.extra_dejson.items() if value}
    files = [extra.get(name) for name in ("key_path", "credential_config_file")]
    files.append(os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"))
    return _access(conn_id, json.dumps(extra, sort_keys=True), tuple(map(_stamp, files)))


def forget() -> None:
    """Read all connections anew: Google takes one no longer, and a secret may have been replaced where it is kept."""
    _access.cache_clear()


@functools.lru_cache(maxsize=64)
def _access(conn_id: str, content: str, files: tuple[object, ...]) -> Access:
    """:param files: what tells that one was replaced; one of the arguments by which equal accesses are known."""
    extra, where = json.loads(content), f"connection {conn_id}"
    credentials, project_id = _credentials(conn_id, where, extra)
    return Access(
        where,
        extra.get("project") or project_id,
        credentials,
        extra.get("dataproc.endpoint"),
        extra.get("gcs.endpoint"),
        extra.get("quota_project_id"),
        extra.get("google.endpoint"),
    )


def _credentials(conn_id: str, where: str, extra: Mapping[str, Any]) -> tuple[Any, str | None]:
    """Credentials of google-auth, and the project that they belong to."""
    if extra.get("is_anonymous"):
        return None, None
    if any(extra.get(name) for name in _ONLY_AIRFLOW):
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

        credentials, project_id = GoogleBaseHook(gcp_conn_id=conn_id).get_credentials_and_project_id()
        return credentials, project_id
    chosen = [name for name in ("key_path", "keyfile_dict", "credential_config_file") if extra.get(name)]
    if len(chosen) > 1:
        raise InvalidInput(f"{where}: extra", chosen, "one of them")
    scopes = _list(extra.get("scope")) or list(SCOPES)
    credentials, project_id = _own(where, chosen[0] if chosen else None, extra, scopes)
    if chain := _list(extra.get("impersonation_chain")):
        from google.auth import impersonated_credentials

        *delegates, principal = chain
        credentials = impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
            source_credentials=credentials, target_principal=principal, target_scopes=scopes, delegates=delegates
        )
    return credentials, project_id


def _own(where: str, chosen: str | None, extra: Mapping[str, Any], scopes: list[str]) -> tuple[Any, str | None]:
    import google.auth
    import google.auth.exceptions

    try:
        if chosen == "keyfile_dict" or (chosen == "credential_config_file" and _is_json(extra[chosen])):
            given = extra[chosen]
            info = json.loads(given) if isinstance(given, str) else given
            found = google.auth.load_credentials_from_dict(info, scopes=scopes)  # type: ignore[no-untyped-call]
        elif chosen:
            found = google.auth.load_credentials_from_file(extra[chosen], scopes=scopes)  # type: ignore[no-untyped-call]
        else:
            found = google.auth.default(scopes=scopes)
    except (google.auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        # Not chained, and without the value: it may be a key.
        allowed = f"credentials that google-auth can read ({type(error).__name__})"
        raise InvalidInput(f"{where}: {chosen or 'default credentials'}", "(not shown)", allowed) from None
    return found[0], found[1]


def _stamp(path: Any) -> object:
    """Another one when the file at a path, if it is one, has been replaced."""
    try:
        found = os.stat(path)
    except (OSError, ValueError, TypeError):
        return str(path)
    return str(path), found.st_mtime_ns, found.st_ino, found.st_size


def _is_json(value: Any) -> bool:
    return not isinstance(value, str) or value.lstrip().startswith("{")


def _list(value: Any) -> list[str]:
    """``"a,b"`` or a list."""
    names = value.split(",") if isinstance(value, str) else value or ()
    return [name.strip() for name in names if name.strip()]
