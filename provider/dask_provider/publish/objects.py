"""Publish below a prefix of an object store, where single objects appear whole but nothing can be renamed.

Below the destination:

- ``_publishing.json``, the marker, comes first: it names every key that is not to stay if this store step is
  interrupted. It also proves that the destination is writable.
- the files: by their own names when the destination was empty, in ``v-<version>/`` when something was published.
- ``_manifest.json``, one object, is the commit: before it readers see the old result, after it the new one.
- then the files of the older result go, and the marker last.

Readers read ``_manifest.json`` (its ``prefix`` says where the files lie); who finds a file gone reads it again.
:func:`dask_provider.results.find_stored` does so.

A store step that finds another's marker takes over: the other one notices before its commit and fails. Files are
removed only after a commit, and two store steps never write different content to one key: plain names are only used
by whoever created the marker in an empty prefix, or for the same content. What remains is a publisher that stands
still between its last look at the marker and its commit, for as long as another one's whole work.

Parts of a large upload that SIGKILL cut off are no objects, and no reader sees them; a bucket's lifecycle rule for
incomplete uploads removes them.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.publish.copying import Copier, Progress
from dask_provider.results import MANIFEST, MARKER, Manifest, StoredResult, now, read_manifest, sizes_below
from dask_provider.storage import Location

log = logging.getLogger(__name__)

_OURS = re.compile(rf"v-[0-9a-f]{{16}}/.*|{storage.PROBE.pattern}")


class StoreTakenOver(RuntimeError):
    """Another store step to the same destination began while this one was at work."""


@dataclass(frozen=True)
class Marker:
    """What a store step is about to do.

    :param nonce: of this very store step.
    :param content: version of what it publishes.
    :param prefix: where it writes the files.
    :param keys: all that it or those before it wrote, and that is not to stay unless a manifest names it.
    """

    nonce: str
    content: str
    prefix: str
    keys: tuple[str, ...]

    def to_json(self) -> bytes:
        """As it lies at the destination."""
        return json.dumps({**self.__dict__, "keys": sorted(self.keys), "started": now()}).encode()


def publish(
    source: Manifest, origin: Location, root: Location, progress: Progress | None, threads: int
) -> StoredResult:
    """See :func:`dask_provider.publish.publish`."""
    with storage.explained("destination", root, "a place that can be read and written to"):
        published, marker, found = read_manifest("destination", root), _read_marker(root), sizes_below(root)
        if published and published.content == source.content and published.complete_in(found):
            _clear(root, published, marker, threads)
            return StoredResult.of(root.uri, published)
        _refuse_foreign(root, published, marker, found)
        mine = _claim(source, root, published, marker, empty=not found)
    new = replace(source, results=storage.split_connection(root.uri)[1] + mine.prefix, prefix=mine.prefix, stored=now())
    try:
        Copier(origin, _below(root, mine.prefix), progress, threads).copy(source)
        _commit(root, new, mine)
    except StoreTakenOver:
        raise
    except Exception:
        with suppress(Exception):  # the error above is the one to show; the next store step clears what is left
            if _read_marker(root) == mine:
                _clear(root, published, mine, threads)
        raise
    _clear(root, new, mine, threads)
    return StoredResult.of(root.uri, new)


def _claim(
    source: Manifest, root: Location, published: Manifest | None, marker: Marker | None, *, empty: bool
) -> Marker:
    """Write the marker that says what this store step is about to do."""
    nonce, content = uuid.uuid4().hex, source.content

    def planned(prefix: str) -> Marker:
        before = set(marker.keys if marker else ()) | set(published.keys() if published else ())
        return Marker(nonce, content, prefix, tuple(sorted(before | {prefix + file.path for file in source.files})))

    at = root.child(MARKER).path
    if empty:
        mine = planned("")
        try:
            root.fs.pipe_file(at, mine.to_json(), mode="create")
            return mine
        except FileExistsError:
            marker = _read_marker(root)
            if marker == mine:
                return mine  # written by an earlier try of the same request
    if published and published.content == content:
        mine = planned(published.prefix)
    elif marker and marker.content == content and not (published and marker.prefix == published.prefix):
        mine = planned(marker.prefix)
    else:
        mine = planned(f"v-{content}/")
    root.fs.pipe_file(at, mine.to_json())
    return mine


def _commit(root: Location, new: Manifest, mine: Marker) -> None:
    sizes = sizes_below(root)
    if not new.complete_in(sizes):
        short = [key for key, size in new.keys().items() if sizes.get(key) != size]
        raise StoreTakenOver(f"{root.uri}: {len(short)} files are not there as they were written, such as {short[0]}")
    if _read_marker(root) != mine:
        raise StoreTakenOver(f"{root.uri}: another store step to it has begun; this one gave way")
    root.fs.pipe_file(root.child(MANIFEST).path, new.to_json())


def _clear(root: Location, published: Manifest | None, marker: Marker | None, threads: int) -> None:
    """Remove what store steps wrote and is not published, the marker last. What stays is cleared by the next one."""
    keep = set(published.keys() if published else ())
    found = sizes_below(root)
    known = set(marker.keys if marker else ())
    try:
        _remove(root, [key for key in found if key not in keep and (key in known or _OURS.fullmatch(key))], threads)
        if MARKER in found:
            _remove(root, [MARKER], threads)
    except OSError as error:
        log.warning("%s: older files could not be removed (%s); the next store step tries again", root.uri, error)


def _remove(root: Location, keys: Iterable[str], threads: int) -> None:
    def remove(key: str) -> None:
        with suppress(FileNotFoundError):
            root.fs.rm_file(root.child(key).path)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(remove, keys))


def _refuse_foreign(root: Location, published: Manifest | None, marker: Marker | None, found: dict[str, int]) -> None:
    known = {MANIFEST, MARKER, *(published.keys() if published else ()), *(marker.keys if marker else ())}
    foreign = sorted(key for key in found if key not in known and not _OURS.fullmatch(key))
    if foreign:
        shown = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        allowed = f"a prefix with nothing below it but what store steps wrote; it holds {shown}"
        raise InvalidInput("destination", root.uri, allowed)


def _read_marker(root: Location) -> Marker | None:
    file = root.child(MARKER)
    try:
        record: dict[str, Any] = json.loads(file.fs.cat_file(file.path))
        return Marker(record["nonce"], record["content"], record["prefix"], tuple(record["keys"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            "destination", file.uri, f"no such file, or one that a store step wrote ({error})"
        ) from error


def _below(root: Location, prefix: str) -> Location:
    return root.child(prefix.rstrip("/")) if prefix else root
