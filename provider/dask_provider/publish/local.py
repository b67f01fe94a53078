"""Publish into a folder of a POSIX file system.

Below the parent of the destination ``flights/``:

- ``.flights.lock``: only one store step at a time is at work on the destination; a killed one lets go by itself.
- ``.flights.<version>.staging/``: the new result until it is complete, checked and on disk; then it becomes the
  destination in one step: a rename, or an exchange of the two names where there is an older result.
- ``.flights.<version>.old/``: the older result, only where the file system cannot exchange (NFS, macOS): it is moved
  away before the new one moves in. In that moment a reader finds nothing; a store step killed in it leaves nothing
  until the next one puts the old result back first. A mixture is never seen.

Whatever an interrupted store step leaves, the next one to the same destination removes. A reader that opens files one
after the other by path reads ``_manifest.json`` first and again at the end; if it changed, or a file was gone, it
starts again. One that opened the folder (``dir_fd``) sees one version or is told that a file is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.publish.copying import Copier, Progress
from dask_provider.publish.swap import exchange, sync, sync_tree
from dask_provider.results import MANIFEST, Manifest, StoredResult, now, read_manifest, sizes_below
from dask_provider.storage import Location

log = logging.getLogger(__name__)


def publish(
    source: Manifest, origin: Location, root: Location, latest: str | None, progress: Progress | None, threads: int
) -> StoredResult:
    """See :func:`dask_provider.publish.publish`."""
    parent, name = os.path.split(root.path)
    os.makedirs(parent, exist_ok=True)
    if os.path.islink(root.path):
        _refuse(root, "a folder, not a symbolic link")
    link = _link(parent, latest) if latest else None
    with _locked(os.path.join(parent, f".{name}.lock"), root):
        _recover(parent, name)
        published, found = read_manifest("destination", root), sizes_below(root)
        if published is None or published.content != source.content or not published.complete_in(found):
            foreign = sorted(set(found) - set(published.keys() if published else ()) - {MANIFEST})
            foreign = [path for path in foreign if not storage.PROBE.fullmatch(path)]
            if foreign or (os.path.lexists(root.path) and not os.path.isdir(root.path)):
                _refuse(root, f"a folder with nothing in it but what store steps wrote; it holds {_some(foreign)}")
            published = replace(source, results=root.uri, prefix="", stored=now())
            staging = Location(root.uri, root.fs, _side(parent, name, published, "staging"), local=True)
            try:
                _stage(source, published, origin, staging, progress, threads)
                _swap(staging.path, root.path, _side(parent, name, published, "old"))
            finally:
                shutil.rmtree(staging.path, ignore_errors=True)  # after an exchange it is the older result
        if link:
            _point(link, name, published)
    return StoredResult.of(root.uri, published)


def follow(root: Location, latest: str) -> None:
    """See :func:`dask_provider.publish.follow`."""
    parent, name = os.path.split(root.path)
    with _locked(os.path.join(parent, f".{name}.lock"), root):
        published = read_manifest("destination", root)
        if published is not None:
            _point(_link(parent, latest), name, published)


def _stage(
    source: Manifest, published: Manifest, origin: Location, staging: Location, progress: Progress | None, threads: int
) -> None:
    os.mkdir(staging.path)
    Copier(origin, staging, progress, threads).copy(source)
    with open(os.path.join(staging.path, MANIFEST), "wb") as file:
        file.write(published.to_json())
    sync_tree(staging.path)


def _swap(staging: str, destination: str, old: str) -> None:
    if not os.path.isdir(destination) or not os.listdir(destination):
        os.rename(staging, destination)
    elif not exchange(staging, destination):
        os.rename(destination, old)
        os.rename(staging, destination)
    sync(os.path.dirname(destination))
    shutil.rmtree(old, ignore_errors=True)


def _recover(parent: str, name: str) -> None:
    """Put an older result back that was moved away and not replaced; remove what else a killed store step left."""
    ours = re.compile(re.escape(f".{name}.") + r"(?:[0-9a-f]{16}\.(staging|old)|link)")
    left = [(entry, found[1]) for entry in sorted(os.listdir(parent)) if (found := ours.fullmatch(entry))]
    for entry, kind in left:
        path = os.path.join(parent, entry)
        if kind == "old" and not os.path.lexists(os.path.join(parent, name)):
            log.warning("an earlier store to %s was interrupted; its older result is put back", name)
            os.rename(path, os.path.join(parent, name))
        elif kind is None:
            os.unlink(path)
        else:
            shutil.rmtree(path)


def _link(parent: str, latest: str) -> str:
    link = os.path.join(parent, latest)
    if os.path.lexists(link) and not os.path.islink(link):
        raise InvalidInput("latest", latest, f"a name that is free or a symbolic link; {link} is neither")
    return link


def _point(link: str, name: str, published: Manifest) -> None:
    """Make ``link`` point to ``name``, unless it points to a result that was stored later."""
    parent = os.path.dirname(link)
    with contextlib.suppress(InvalidInput):
        current = read_manifest("latest", storage.open_path("latest", link))
        if current is not None and (current.stored or "") > (published.stored or ""):
            return
    scratch = os.path.join(parent, f".{name}.link")
    os.symlink(name, scratch)
    os.replace(scratch, link)
    sync(parent)


@contextlib.contextmanager
def _locked(path: str, root: Location) -> Iterator[None]:
    """Wait until no other store step is at work on the destination; the lock file is gone afterwards."""
    told = False
    while True:
        with open(path, "w") as file:
            if not _try_lock(file.fileno()):
                if not told:
                    log.info("another store step is at work on %s: waiting for it", root.uri)
                told = True
                time.sleep(0.2)
            elif _is_at(file.fileno(), path):  # else its last holder has removed it meanwhile
                try:
                    yield
                finally:
                    os.unlink(path)
                return


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _side(parent: str, name: str, manifest: Manifest, kind: str) -> str:
    return os.path.join(parent, f".{name}.{manifest.content}.{kind}")


def _refuse(root: Location, allowed: str) -> NoReturn:
    raise InvalidInput("destination", root.uri, allowed)


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "") or "something else"
