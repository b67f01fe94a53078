"""Copies the files of a manifest, several at a time, and holds each against its checksum."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Lock
from typing import Any

from dask_provider.errors import InvalidInput
from dask_provider.results import Manifest, ManifestFile
from dask_provider.storage import Location, explained

#: called with files and bytes copied so far
Progress = Callable[[int, int], None]

#: bytes of one read; files up to this size are read and written in one request
BLOCK = 8 << 20
#: stores whose file systems take any two buckets of one endpoint for a copy on their own side
_COPY_BETWEEN_BUCKETS = {"s3", "gs"}
_AZURE = "abfs"
#: seconds between questions whether a store has copied, and how long it may take
AGAIN, COPIED_WITHIN = 0.5, 600.0


class Copier:
    """Copies from one location to another."""

    def __init__(self, source: Location, target: Location, progress: Progress | None, threads: int) -> None:
        self._source, self._target, self._threads = source, target, threads
        self._progress, self._lock, self._files, self._bytes = progress, Lock(), 0, 0
        self._stopped = False
        self._server_side = not target.local and _same_store(source.fs, target.fs)

    def copy(self, manifest: Manifest) -> None:
        """Copy every file to its relative path below the target.

        :raises InvalidInput: a file is not there, or not what the manifest says.
        """
        if self._target.local:
            for folder in {os.path.dirname(self._target.child(file.path).path) for file in manifest.files}:
                os.makedirs(folder, exist_ok=True)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="store")
        try:
            copies = [pool.submit(self._copy, file) for file in manifest.files]
            wait(copies, return_when=FIRST_EXCEPTION)
            for copy in copies:
                if copy.done():
                    copy.result()
        finally:
            self._stopped = True
            pool.shutdown(wait=True, cancel_futures=True)

    def _copy(self, file: ManifestFile) -> None:
        source, target = self._source.child(file.path), self._target.child(file.path)
        if not (self._server_side and self._copy_on_server(file, source, target)):
            self._stream(file, source, target)
        self._count(files=1)

    def _copy_on_server(self, file: ManifestFile, source: Location, target: Location) -> bool:
        try:
            copy_in_store(target.fs, source.path, target.path)
        except (OSError, NotImplementedError):
            return False  # these credentials may not read the source, or the store will not: copy by hand
        self._check(file, source, _blocks(target, file.bytes))
        return True

    def _stream(self, file: ManifestFile, source: Location, target: Location) -> None:
        blocks = _source_blocks(source, file.bytes)
        if file.bytes <= BLOCK and not target.local:
            content = b"".join(blocks)
            self._check(file, source, iter([content]))
            target.fs.pipe_file(target.path, content)
            return
        with target.fs.open(target.path, "wb", block_size=2 * BLOCK) as out:
            self._check(file, source, blocks, out)

    def _check(self, file: ManifestFile, source: Location, blocks: Iterator[bytes], out: Any = None) -> None:
        digest, size = hashlib.sha256(), 0
        for block in blocks:
            digest.update(block)
            size += len(block)
            if out is not None:
                out.write(block)
            self._count(size=len(block))
        if (size, digest.hexdigest()) != (file.bytes, file.sha256):
            raise InvalidInput(
                "source",
                source.uri,
                f"the content of its manifest, {file.bytes} bytes with SHA-256 {file.sha256}; it has {size} bytes with "
                f"{digest.hexdigest()}: the file was changed or damaged after the job had written it",
            )

    def _count(self, *, files: int = 0, size: int = 0) -> None:
        with self._lock:
            if self._stopped:
                raise RuntimeError("the copying of other files has failed")
            self._files, self._bytes = self._files + files, self._bytes + size
            if self._progress is not None:
                self._progress(self._files, self._bytes)


def copy_in_store(fs: Any, source: str, target: str) -> None:
    """Have the store copy an object by itself. It is complete when this returns.

    :raises OSError: the store could not.
    """
    if _AZURE in _protocols(fs):
        _copy_in_azure(fs, source, target)
    else:
        fs.cp_file(source, target)


def _copy_in_azure(fs: Any, source: str, target: str) -> None:
    """Azure answers before it has copied, and leaves an empty object of what it could not."""
    from azure.core.exceptions import AzureError
    from fsspec.asyn import sync

    until = time.monotonic() + COPIED_WITHIN
    try:
        fs.cp_file(source, target)
        while (status := sync(fs.loop, _azure_status, fs, target)) == "pending" and time.monotonic() < until:
            time.sleep(AGAIN)
    except AzureError as error:
        raise OSError(f"the store could not copy {source} to {target}: {error}") from error
    if status != "success":
        with suppress(OSError, AzureError):
            fs.rm_file(target)
        raise OSError(f"the store could not copy {source} to {target}: {status}")


async def _azure_status(fs: Any, path: str) -> str | None:
    """How far the copy is."""
    container, blob, _ = fs.split_path(path)
    async with fs.service_client.get_blob_client(container=container, blob=blob) as client:
        found = await client.get_blob_properties()
    return None if found.copy.status is None else str(found.copy.status)


def _source_blocks(source: Location, size: int) -> Iterator[bytes]:
    with explained("source", source, "a file that exists, as its manifest says, and can be read"):
        yield from _blocks(source, size)


def _blocks(location: Location, size: int) -> Iterator[bytes]:
    if size <= BLOCK and not location.local:
        yield location.fs.cat_file(location.path)
        return
    with location.fs.open(location.path, "rb", block_size=BLOCK) as file:
        while block := file.read(BLOCK):
            yield block


def _same_store(a: Any, b: Any) -> bool:
    """Whether the store behind ``b`` can copy from ``a`` by itself."""
    if a is b:
        return True
    return type(a) is type(b) and bool(_protocols(a) & _COPY_BETWEEN_BUCKETS) and _endpoint(a) == _endpoint(b)


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def _endpoint(fs: Any) -> object:
    return getattr(fs, "endpoint_url", None) or getattr(fs, "_endpoint", None)
