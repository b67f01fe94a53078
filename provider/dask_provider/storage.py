"""Files by path or URI: local ones as they are, all others through Airflow's object storage and its connections."""

from __future__ import annotations

import errno
import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dask_provider.errors import InvalidInput

#: names of probe files; one may stay behind when its writer is killed, and whoever finds it may remove it
PROBE = re.compile(r"_probe-[0-9a-f]{8}")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a", "s3n"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), "azure"),
}
_FORMS = "an absolute path, file:///path, s3://[connection@]bucket/key, gs://..., abfs://... or another fsspec URI"


@dataclass(frozen=True)
class Location:
    """A file or a prefix together with what reads and writes it.

    :param uri: how it was named, local paths as ``file:///...``; it names an Airflow connection, never a secret.
    :param fs: the fsspec file system.
    :param path: where it lies in ``fs``, without a slash at its end.
    :param local: whether it is on this machine's own file system.
    """

    uri: str
    fs: Any
    path: str
    local: bool

    def child(self, name: str) -> Location:
        """What lies below this prefix under a relative name."""
        return Location(join(self.uri, name), self.fs, f"{self.path}/{name}", self.local)


def open_path(field: str, uri: str, conn_id: str | None = None) -> Location:
    """The location of a path or URI. Opens no file; the first use of a connection reads it from Airflow.

    :param field: what the user set, for the error message.
    :param conn_id: Airflow connection, when the URI does not name one itself (``s3://connection@bucket/key``).
    :raises InvalidInput: unknown scheme, no bucket, a provider or extra that is not installed, an unknown connection.
    """
    if not isinstance(uri, str) or not uri.strip():
        raise InvalidInput(field, uri, _FORMS)
    scheme = _SCHEME.match(uri)
    if scheme is None or scheme[1] == "file":
        return _open_local(field, uri)
    named, bare = split_connection(uri)
    if named and conn_id and named != conn_id:
        raise InvalidInput(field, uri, f"one connection; the URI names {named!r}, the other setting {conn_id!r}")
    connection = named or conn_id
    if not bare[scheme.end() :].strip("/") or bare[scheme.end()] == "/":
        raise InvalidInput(field, uri, _FORMS)
    fs = _filesystem(field, uri, scheme[1].lower(), bare, connection)
    shown = f"{scheme[0]}{connection}@{bare[scheme.end() :]}" if connection else bare
    return Location(shown, fs, str(fs._strip_protocol(bare)).rstrip("/"), local=False)


def split_connection(uri: str) -> tuple[str | None, str]:
    """``s3://prod@bucket/key`` -> ``("prod", "s3://bucket/key")``; local paths stay as they are."""
    scheme = _SCHEME.match(uri)
    if scheme is None or scheme[1] == "file":
        return None, uri
    authority, slash, key = uri[scheme.end() :].partition("/")
    connection, _, bucket = authority.rpartition("@")
    return connection or None, f"{scheme[0]}{bucket}{slash}{key}"


def read_bytes(field: str, uri: str, conn_id: str | None = None) -> bytes:
    """The content of a file, also an empty one.

    :raises InvalidInput: it is not there or may not be read, and whatever :func:`open_path` refuses.
    """
    location = open_path(field, uri, conn_id)
    with explained(field, location, "a file that exists and can be read"):
        location.fs.invalidate_cache()
        return bytes(location.fs.cat_file(location.path))


def check_writable(field: str, uri: str, conn_id: str | None = None) -> None:
    """Write and delete a tiny file below the prefix; of a local folder not made yet, in the nearest one above it.

    :raises InvalidInput: naming the cause, when either is not allowed.
    """
    location = open_path(field, uri, conn_id)
    folder = location.path
    while location.local and folder != os.path.dirname(folder) and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    probe = f"{folder}/_probe-{uuid.uuid4().hex[:8]}"
    with explained(field, location, "a place to write to and delete from"):
        location.fs.pipe_file(probe, b"dask")
        location.fs.rm_file(probe)


def join(prefix: str, name: str) -> str:
    """``("s3://b/p", "x")`` and ``("s3://b/p/", "x")`` -> ``"s3://b/p/x"``; no name: the prefix with its slash."""
    return f"{prefix.rstrip('/')}/{name}"


@contextmanager
def explained(field: str, location: Location, wanted: str) -> Iterator[None]:
    """Turns "not there", "not allowed" and "no credentials" of any client library into :class:`InvalidInput`.

    Everything else (a network that is away, a server in trouble) passes: a retry may help there.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InvalidInput(field, location.uri, f"{wanted} ({_cause(error)}{_hint(location)})") from error
    except Exception as error:
        impossible = isinstance(error, OSError) and error.errno in (errno.EROFS, errno.ENAMETOOLONG)
        if not (impossible or _refused(error) or re.search("Credential|RefreshError", type(error).__name__)):
            raise
        raise InvalidInput(field, location.uri, f"{wanted} ({_cause(error)}{_hint(location)})") from error


def _refused(error: BaseException) -> bool:
    """Whether a store answered that it will never do this: a status of 400 to 499, but for "try again"."""
    statuses: list[object] = []
    for told in (error, error.__cause__):
        answer = getattr(told, "response", None)  # botocore's
        statuses += [getattr(told, name, None) for name in ("code", "status", "status_code")]
        statuses += [answer.get("ResponseMetadata", {}).get("HTTPStatusCode")] if isinstance(answer, dict) else []
    return any(isinstance(s, int) and 400 <= s < 500 and s not in (408, 409, 425, 429) for s in statuses)


def _open_local(field: str, uri: str) -> Location:
    from fsspec.implementations.local import LocalFileSystem

    path = uri.removeprefix("file://")
    if path.startswith("localhost/"):
        path = path.removeprefix("localhost")
    if uri != path and not path.startswith("/"):
        raise InvalidInput(field, uri, _FORMS)
    path = os.path.abspath(os.path.expanduser(path))
    slash = "/" if uri.endswith("/") and path != "/" else ""
    return Location(f"file://{path}{slash}", LocalFileSystem(auto_mkdir=False), path, local=True)


def _filesystem(field: str, uri: str, scheme: str, bare: str, connection: str | None) -> Any:
    import fsspec

    from dask_provider._compat import connection_exists, open_object_storage

    extra = _EXTRAS.get(scheme)
    if extra == "azure":
        _quieten_azure()
    missing = f"a URI whose provider is installed; install airflow-provider-dask[{extra}]"
    if extra is None and scheme not in fsspec.available_protocols() and "+" not in scheme:
        raise InvalidInput(field, uri, _FORMS)
    if connection and not connection_exists(connection):
        raise InvalidInput(field, uri, f"an Airflow connection that exists; there is none with the id {connection!r}")
    try:
        return open_object_storage(bare, connection).fs
    except ImportError as error:
        raise InvalidInput(field, uri, f"{missing} ({error})" if extra else f"{_FORMS} ({error})") from error
    except ValueError as error:
        if extra:
            raise InvalidInput(field, uri, f"{missing} ({error})") from error
    if connection:
        raise InvalidInput(field, uri, f"no connection: no provider of Airflow serves {scheme}://")
    try:
        return fsspec.filesystem(scheme)
    except (ImportError, ValueError) as error:
        raise InvalidInput(field, uri, f"{_FORMS} ({error})") from error


def _quieten_azure() -> None:
    """Else a task's log has twenty lines for each request. The variable is that of Airflow's own hooks."""
    name = "azure.core.pipeline.policies.http_logging_policy"
    parts = name.split(".")
    loggers = [logging.getLogger(".".join(parts[:count])) for count in range(1, len(parts) + 1)]
    if all(logger.level == logging.NOTSET for logger in loggers):  # nobody has asked for more, or less
        loggers[-1].setLevel(os.environ.get("AZURE_HTTP_LOGGING_LEVEL", "WARNING"))


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _hint(location: Location) -> str:
    if location.local or split_connection(location.uri)[0]:
        return ""
    scheme = location.uri.partition("://")[0]
    return f"; no connection was named, {scheme}://connection@... uses one of Airflow"
