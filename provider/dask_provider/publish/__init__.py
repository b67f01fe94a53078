"""Publish a job's result at its destination: readers see all of it or nothing, whatever happens to the publisher."""

from __future__ import annotations

import os

from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.publish import local, objects
from dask_provider.publish.copying import Progress
from dask_provider.results import Manifest, StoredResult

__all__ = ["Progress", "check_destination", "follow", "load_source", "open_destination", "publish"]


def load_source(manifest: str, field: str = "source") -> Manifest:
    """The manifest of a job, or of a stored result, by its URI.

    Where the manifest names its files without an Airflow connection, they are read with the one that read it.

    :raises InvalidInput: not there, not readable, or not a manifest.
    """
    read = Manifest.parse(field, manifest, storage.read_bytes(field, manifest))
    connection, _ = storage.split_connection(manifest)
    named, _ = storage.split_connection(read.results)
    if connection and not named and _scheme(manifest) == _scheme(read.results):
        uri = storage.open_path(field, read.results, connection).uri
        return Manifest(read.job_id, uri, read.created, read.files)
    return Manifest(read.job_id, read.results, read.created, read.files)


def open_destination(destination: str, latest: str | None = None, field: str = "destination") -> storage.Location:
    """The location of a destination, checked without writing anything.

    :raises InvalidInput: a relative path, the root of a file system, a ``latest`` that is not a plain name or not on
        a local file system, and whatever :func:`dask_provider.storage.open_path` refuses.
    """
    root = storage.open_path(field, storage.join(destination, "") if destination else destination)
    if root.local and not destination.startswith(("/", "~/", "file:")):
        raise InvalidInput(field, destination, "an absolute path or a URI")
    if root.local and root.path == "/":
        raise InvalidInput(field, destination, "a folder of its own")
    if latest is not None:
        if not root.local:
            raise InvalidInput("latest", latest, f"None: {destination} is on an object store, which has no links")
        if not latest or "/" in latest or latest.startswith(".") or latest == root.path.rpartition("/")[2]:
            raise InvalidInput("latest", latest, 'the name of a link beside the destination, such as "latest"')
    return root


def check_destination(destination: str, latest: str | None = None, field: str = "destination") -> storage.Location:
    """The location of a destination, after a tiny file was written to it, or to the folder beside it, and removed.

    :raises InvalidInput: it is not writable, and whatever :func:`open_destination` refuses.
    """
    root = open_destination(destination, latest, field)
    storage.check_writable(field, os.path.dirname(root.path) if root.local else root.uri)
    return root


def publish(
    source: Manifest, destination: str, *, latest: str | None = None, progress: Progress | None = None, threads: int = 4
) -> StoredResult:
    """Publish the files of ``source`` below ``destination``. The same content again: nothing is copied.

    Every file is held against its checksum: a streamed copy while it is read; a copy made by the store itself is read
    back once (the store does not know the SHA-256 of what it copies, so nothing less would prove it).

    :param source: what to publish, from :func:`load_source`.
    :param destination: an absolute path or URI prefix; a folder or prefix that only store steps write to.
    :param latest: name of a symbolic link beside a local destination that is made to point to it, unless it points to a
        result that was stored later.
    :param progress: called with files and bytes copied so far, one call at a time, from several threads; what it raises
        ends the copying.
    :param threads: files copied at once.
    :raises InvalidInput: the source is not what its manifest says, the destination is not writable or holds files that
        no store step wrote. The destination is then as it was.
    """
    root = open_destination(destination, latest)
    origin = storage.open_path("source", source.results)
    a, b = (storage.split_connection(uri)[1] for uri in (origin.uri, root.uri))
    if a.startswith(b) or b.startswith(a):
        raise InvalidInput("destination", destination, f"a place apart from the source {origin.uri}")
    check_destination(destination, latest)
    if root.local:
        return local.publish(source, origin, root, latest, progress, threads)
    return objects.publish(source, origin, root, progress, threads)


def follow(destination: str, latest: str) -> None:
    """Point the link ``latest`` to what is published at a local destination, as :func:`publish` does.

    :raises InvalidInput: the name is taken by something else, or :func:`open_destination` refuses.
    """
    local.follow(open_destination(destination, latest), latest)


def _scheme(uri: str) -> str:
    return uri.partition("://")[0]
