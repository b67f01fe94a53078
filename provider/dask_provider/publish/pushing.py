"""Bring the files of a folder to where jobs are read from: only those that are not there, or are others there."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.publish.copying import BLOCK
from dask_provider.results import sizes_below
from dask_provider.storage import Location

NEW, CHANGED, UNCHANGED = "new", "changed", "unchanged"


@dataclass(frozen=True)
class PushedFile:
    """One file of the folder.

    :param path: below the folder and the destination, with ``/`` between folders.
    :param bytes: its size.
    :param state: ``new``, ``changed`` or ``unchanged``, before it was brought there.
    """

    path: str
    bytes: int
    state: str


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    :param folder: with the files.
    :param destination: where they go.
    :param files: all of the folder, sorted by path.
    :param others: what is at the destination alone, and stays.
    """

    folder: Path
    destination: Location
    files: tuple[PushedFile, ...]
    others: tuple[str, ...]

    @property
    def to_write(self) -> list[PushedFile]:
        """The files that are not there as they are here."""
        return [file for file in self.files if file.state != UNCHANGED]


def plan_push(source: str, destination: str, threads: int = 8) -> Plan:
    """Compare the files of a folder with a destination. Writes nothing.

    Files of the same size are the same if their SHA-256 is: the destination's are read for that, since not every store
    tells a checksum of each object. Hidden files and what Python leaves are no jobs.

    :param source: a local folder, or one file.
    :param destination: an absolute path or URI prefix.
    :raises InvalidInput: no such file or folder, nothing in it, or a destination that cannot be read.
    """
    folder, paths = _listed(source)
    target = storage.open_path("destination", destination)
    if target.local and not destination.startswith(("/", "~/", "file:")):
        raise InvalidInput("destination", destination, "an absolute path or a URI")
    if target.local and Path(target.path).resolve().is_relative_to(folder.resolve()):
        raise InvalidInput("destination", destination, f"a place outside of {folder}")
    with storage.explained("destination", target, "a prefix that can be listed and read"):
        there = sizes_below(target)

        def compared(path: str) -> PushedFile:
            size = (folder / path).stat().st_size
            if path not in there:
                return PushedFile(path, size, NEW)
            equal = size == there[path] and _digest(target.child(path)) == _digest(_here(folder / path))
            return PushedFile(path, size, UNCHANGED if equal else CHANGED)

        with ThreadPoolExecutor(threads) as pool:
            files = tuple(pool.map(compared, paths))
    return Plan(folder, target, files, tuple(sorted(path for path in there if path not in set(paths))))


def push(plan: Plan, threads: int = 8) -> Iterator[tuple[PushedFile, Exception | None]]:
    """Write what the plan says. Each file appears as a whole; its fate is told when it is known, in their order.

    :raises InvalidInput: the destination cannot be written to.
    """
    with ThreadPoolExecutor(threads) as pool:
        for file, fate in [(file, pool.submit(_write, plan, file.path)) for file in plan.to_write]:
            error = fate.exception()
            if isinstance(error, InvalidInput) or (error is not None and not isinstance(error, Exception)):
                pool.shutdown(cancel_futures=True)
                raise error
            yield file, error


def _listed(source: str) -> tuple[Path, list[str]]:
    root = Path(source).expanduser()
    if root.is_file():
        return root.parent, [root.name]
    if not root.is_dir():
        raise InvalidInput("source", source, "a folder with jobs, or one file, of this machine")
    found = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    jobs = [path for path in found if path.suffix != ".pyc" and not any(_is_noise(part) for part in path.parts)]
    if not jobs:
        raise InvalidInput("source", source, "a folder with files; it has none, but for hidden ones")
    return root, [path.as_posix() for path in jobs]


def _is_noise(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _here(path: Path) -> Location:
    return storage.open_path("source", str(path.absolute()))


def _digest(location: Location) -> str:
    digest = hashlib.sha256()
    with location.fs.open(location.path, "rb", block_size=BLOCK) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _write(plan: Plan, path: str) -> None:
    source, target = plan.folder / path, plan.destination.child(path)
    if not os.access(source, os.R_OK):
        raise InvalidInput("source", str(source), "a file that is still there and can be read")
    with storage.explained("destination", plan.destination, "a prefix that can be written to"):
        if target.local:
            _replace(str(source), target)
        elif source.stat().st_size <= BLOCK:
            target.fs.pipe_file(target.path, source.read_bytes())
        else:
            # Not put_file: some stores' do not overwrite.
            with source.open("rb") as file, target.fs.open(target.path, "wb", block_size=2 * BLOCK) as out:
                while block := file.read(BLOCK):
                    out.write(block)


def _replace(source: str, target: Location) -> None:
    folder, name = os.path.split(target.path)
    os.makedirs(folder, exist_ok=True)
    scratch = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}")
    try:
        target.fs.put_file(source, scratch)
        os.replace(scratch, target.path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(scratch)


def dags_command(prefix: str, folder: str = "dags") -> str:
    """How DAGs get to a Composer environment.

    :param prefix: what Composer and Terraform call the DAG prefix: ``gs://BUCKET/dags``, with or without a slash.
    :raises InvalidInput: any other.
    """
    bare = prefix.rstrip("/")
    if not bare.startswith("gs://") or bare.count("/") != 3 or not bare.endswith("/dags"):
        allowed = "gs://BUCKET/dags, as terraform output -raw composer_dag_gcs_prefix shows it"
        raise InvalidInput("--dags", prefix, allowed)
    return f"gcloud storage cp {folder}/*.py {bare}/"
