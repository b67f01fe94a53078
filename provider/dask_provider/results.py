"""What a job left and what a store step published: manifests, the record of a stored result, and how to find one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.handles import Record

#: the file below a destination that says what is published there; who reads a stored result reads it first
MANIFEST = "_manifest.json"
#: the file that lies beside it while a store step is at work on an object store
MARKER = "_publishing.json"

_FORMAT = 1


@dataclass(frozen=True)
class ManifestFile:
    """One file of a result.

    :param path: relative to the prefix, with ``/`` between folders.
    :param bytes: its size.
    :param sha256: hex digest of its content.
    :param rows: of a table file, where known.
    """

    path: str
    bytes: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True)
class Manifest:
    """The complete list of the files of a result.

    :param job_id: the job that made them.
    :param results: URI prefix that holds them, ends with ``/``.
    :param created: when the list was made, ISO 8601 UTC.
    :param files: sorted by path.
    :param prefix: below a destination, where the files lie: ``""`` or ``v-<version>/``.
    :param stored: when they were published there, ISO 8601 UTC; ``None`` for the list that a job wrote.
    """

    job_id: str
    results: str
    created: str
    files: tuple[ManifestFile, ...]
    prefix: str = ""
    stored: str | None = None

    @classmethod
    def build(cls, job_id: str, results: str, listing: Iterable[ManifestFile]) -> Manifest:
        """A manifest of now.

        :raises InvalidInput: for a path that is not relative, is there twice or is one of ours.
        """
        files = tuple(sorted(listing, key=lambda file: file.path))
        _check_paths("manifest", results, files)
        return cls(job_id, storage.join(results, ""), now(), files)

    @classmethod
    def parse(cls, field: str, uri: str, content: bytes) -> Manifest:
        """The manifest that :meth:`to_json` or a job's runtime wrote.

        :param field, uri: what was read, for the error message.
        :raises InvalidInput: no JSON, another format, sizes or checksums missing, unsafe paths.
        """
        try:
            record = json.loads(content)
            if record["version"] != _FORMAT:
                raise ValueError(f"format {record['version']!r}")
            files = tuple(sorted((_file(entry) for entry in record["files"]), key=lambda file: file.path))
            texts = (record["job_id"], record["results"], record["created"], record.get("prefix", ""))
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("job_id, results, created and prefix are text")
            manifest = cls(texts[0], storage.join(texts[1], ""), texts[2], files, texts[3], record.get("stored"))
        except KeyError as error:
            raise InvalidInput(field, uri, f"the manifest of a job (it has no {error})") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInput(field, uri, f"the manifest of a job in JSON, format {_FORMAT} ({error})") from error
        _check_paths(field, uri, files)
        return manifest

    def to_json(self) -> bytes:
        """The manifest as it lies in files."""
        files = [{"path": f.path, "bytes": f.bytes, "sha256": f.sha256, "rows": f.rows} for f in self.files]
        record = {
            "version": _FORMAT,
            "job_id": self.job_id,
            "results": self.results,
            "created": self.created,
            "bytes": self.total_bytes,
            "files": files,
        }
        if self.stored is not None:
            record |= {"content": self.content, "prefix": self.prefix, "stored": self.stored}
        return json.dumps(record, indent=1).encode()

    @property
    def content(self) -> str:
        """Version of the result, 16 hex digits: the same for the same files, whoever made them."""
        lines = "".join(f"{file.sha256} {file.bytes} {file.path}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.bytes for file in self.files)

    @property
    def rows(self) -> int | None:
        """Rows of all files that tell theirs; ``None`` when none does."""
        known = [file.rows for file in self.files if file.rows is not None]
        return sum(known) if known else None

    def keys(self) -> dict[str, int]:
        """Where the files lie below the destination, with their sizes."""
        return {self.prefix + file.path: file.bytes for file in self.files}

    def complete_in(self, sizes: dict[str, int]) -> bool:
        """Whether every file is there with its size (``sizes``: what lies below the destination)."""
        return all(sizes.get(key) == size for key, size in self.keys().items())


@dataclass(frozen=True)
class StoredResult(Record):
    """A result that is published.

    :param destination: URI prefix of the store step, ends with ``/``.
    :param uri: URI prefix to read the files from now: the destination, or a folder below it.
    :param manifest: URI of the manifest at the destination.
    :param version: of the content; the same for the same files.
    :param files: how many.
    :param bytes: size of all of them.
    :param rows: of the files that tell theirs.
    """

    destination: str
    uri: str
    manifest: str
    version: str
    files: int
    bytes: int
    rows: int | None = None

    @classmethod
    def of(cls, destination: str, manifest: Manifest) -> StoredResult:
        """The record of what ``manifest`` says about ``destination``."""
        return cls(
            destination=storage.join(destination, ""),
            uri=storage.join(destination, manifest.prefix),
            manifest=storage.join(destination, MANIFEST),
            version=manifest.content,
            files=len(manifest.files),
            bytes=manifest.total_bytes,
            rows=manifest.rows,
        )


def find_stored(destination: str, field: str = "destination") -> StoredResult | None:
    """The result that a store step published at a destination, ``None`` when there is none or files of it are gone.

    :raises InvalidInput: for a destination that cannot be read or holds a manifest that is not ours.
    """
    root = storage.open_path(field, storage.join(destination, ""))
    with storage.explained(field, root, "a place that can be read"):
        published = read_manifest(field, root)
        if published is None or not published.complete_in(sizes_below(root)):
            return None
    return StoredResult.of(root.uri, published)


def read_manifest(field: str, root: storage.Location) -> Manifest | None:
    """What is published at a destination now, straight from the store; ``None`` when nothing is."""
    file = root.child(MANIFEST)
    try:
        return Manifest.parse(field, file.uri, file.fs.cat_file(file.path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def sizes_below(root: storage.Location) -> dict[str, int]:
    """Every file below a prefix, as the store says now: relative path -> bytes. Empty when there is no such prefix."""
    root.fs.invalidate_cache()
    found: dict[str, dict[str, Any]] = root.fs.find(root.path, detail=True)
    start = root.path + "/"
    return {
        path[len(start) :]: int(info["size"] or 0)
        for path, info in found.items()
        if path.startswith(start) and path != start and not path.endswith("/")
    }


def now() -> str:
    """This moment, ISO 8601 UTC, in microseconds: store steps are put in order by it."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def _file(entry: dict[str, Any]) -> ManifestFile:
    path, size, digest, rows = entry["path"], entry["bytes"], entry["sha256"], entry.get("rows")
    if not isinstance(path, str) or type(size) is not int or size < 0 or type(rows) not in (int, type(None)):
        raise ValueError(f"the file {entry!r}")
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError(f"the checksum of {path!r}")
    return ManifestFile(path, size, digest, rows)


def _check_paths(field: str, uri: str, files: tuple[ManifestFile, ...]) -> None:
    seen = set()
    for path in (file.path for file in files):
        if {"", ".", ".."} & set(path.split("/")) or path in seen:
            raise InvalidInput(field, f"{uri}: {path}", "files below the prefix, each once, by relative paths")
        if path in (MANIFEST, MARKER):
            raise InvalidInput(
                field, f"{uri}: {path}", f"other names than {MANIFEST} and {MARKER}, which the store uses"
            )
        seen.add(path)
