"""One output file for each input file: which there are, which are missing, and how one is published."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.handles import Record
from dask_provider.publish.copying import copy_in_store
from dask_provider.publish.swap import sync
from dask_provider.results import sizes_below
from dask_provider.storage import Location

#: folder beside the outputs that holds what jobs have not finished; a pattern like ``out/*.parquet`` never meets it
UNFINISHED = "_temporary"
#: what patterns of outputs and the words of a command may hold
WORDS = ("folder", "name", "stem")
_WORD = re.compile(r"\{(\w+)\}")
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class FileWork(Record):
    """One file that is to be made.

    :param input: as the program is to open it: a plain path, or a URI without an Airflow connection.
    :param outputs: URI of the folder of all outputs, ends with ``/``; may name an Airflow connection.
    :param path: of this output, relative to it.
    """

    input: str
    outputs: str
    path: str

    @property
    def output(self) -> str:
        """URI of the finished file."""
        return storage.join(self.outputs, self.path)

    def unfinished(self, job_id: str) -> str:
        """Where the job writes, relative to the folder of outputs; its ending, which tells the format, stays."""
        return f"{UNFINISHED}/{job_id}/{self.path.rpartition('/')[2]}"

    def words(self, job_id: str, escape: Callable[[str], str] = str) -> dict[str, str]:
        """What ``{input}``, ``{output}``, ``{name}`` and ``{stem}`` stand for in the command of the job.

        :param job_id: may be a text that the place replaces.
        :param escape: applied to all but that.
        """
        folder, name = escape(storage.join(for_program(self.outputs), UNFINISHED)), self.path.rpartition("/")[2]
        said = {"input": self.input, **_words(self.input.rpartition("/")[2])}
        return {**{word: escape(text) for word, text in said.items()}, "output": f"{folder}/{job_id}/{escape(name)}"}


def find_inputs(uri: str) -> dict[str, dict[str, str]]:
    """The files that a path or URI with ``*``, ``?``, ``[...]`` and ``**`` names, with their words, in one listing.

    :raises InvalidInput: for a folder that is not there or cannot be read.
    """
    fixed, pattern = _split(uri, _WILD)
    if not pattern:
        raise InvalidInput("inputs", uri, 'a pattern of files, such as "s3://bucket/in/*.csv"')
    root = storage.open_path("inputs", fixed)
    with storage.explained("inputs", root, "a folder that can be read"):
        root.fs.invalidate_cache()
        if root.local and not os.path.isdir(root.path):
            raise FileNotFoundError(root.path)
        found: Mapping[str, Mapping[str, Any]] = root.fs.glob(f"{root.path}/{pattern}", detail=True)
    start, named = f"{root.path}/", {}
    for path in sorted(path for path, info in found.items() if info["type"] == "file"):
        relative = path[len(start) :]
        folder, _, name = relative.rpartition("/")
        if UNFINISHED not in folder.split("/") and name:
            words = {**_words(name), "folder": folder and f"{folder}/"}
            named[for_program(storage.join(root.uri, relative))] = words
    return named


def plan_outputs(inputs: Mapping[str, Mapping[str, str]], output: str) -> list[FileWork]:
    """The output of each input.

    :param output: such as ``s3://bucket/out/{stem}.parquet``.
    :raises InvalidInput: a word that nobody knows, or two inputs with one output.
    """
    fixed, pattern = _split(output, re.compile(r"\{"))
    unknown = [word for word in _WORD.findall(output) if word not in WORDS]
    if unknown or not {"name", "stem"} & set(_WORD.findall(pattern)) or pattern.endswith("/"):
        allowed = "one file for each input, its name made from {stem} or {name}, and {folder} if need be"
        raise InvalidInput("output", output, allowed)
    planned: dict[str, FileWork] = {}
    outputs = storage.join(storage.open_path("output", fixed).uri, "")
    for uri, words in inputs.items():
        work = FileWork(uri, outputs, fill(pattern, words))
        if other := planned.get(work.path):
            both = f"{other.input} and {uri} have one output, {work.output}"
            raise InvalidInput("output", output, f"an output for each input, but {both}")
        planned[work.path] = work
    return list(planned.values())


def finished(works: Iterable[FileWork]) -> set[str]:
    """Paths of the outputs that exist, in one listing (a store answers it by the thousand)."""
    works = list(works)
    if not works:
        return set()
    root = _outputs(works[0])
    with storage.explained("output", root, "a folder that can be read"):
        if any("/" in work.path for work in works):
            there = set(sizes_below(root))
        else:
            root.fs.invalidate_cache()
            try:
                listed = root.fs.ls(root.path, detail=True)
            except FileNotFoundError:
                listed = []
            there = {info["name"].rpartition("/")[2] for info in listed if info["type"] == "file"}
    return there & {work.path for work in works}


def prepare(work: FileWork, job_id: str) -> None:
    """Make the folder that the job writes to, where folders have to be made."""
    root = _outputs(work)
    if root.local:
        with storage.explained("output", root, "a place to write to"):
            folder = os.path.dirname(os.path.join(root.path, work.unfinished(job_id)))
            with contextlib.suppress(FileNotFoundError):  # another run may just be tidying up
                os.makedirs(folder, exist_ok=True)
            os.makedirs(folder, exist_ok=True)


def publish(work: FileWork, job_id: str) -> int | None:
    """Give what the job has written its name, in one step, and return its bytes; ``None`` when it wrote nothing."""
    root = _outputs(work)
    source, target = root.child(work.unfinished(job_id)), root.child(work.path)
    root.fs.invalidate_cache()
    if not root.fs.isfile(source.path):
        return None
    size = int(root.fs.size(source.path))
    with storage.explained("output", target, "a file to write to"):
        if root.local:
            _rename(source.path, target.path)
        else:
            copy_in_store(root.fs, source.path, target.path)
            root.fs.rm_file(source.path)
    return size


def forget_unfinished(works: Iterable[FileWork], names: set[str]) -> int:
    """Remove what jobs of these names have left; returns how many files."""
    work = next(iter(works), None)
    if work is None:
        return 0
    folder = _outputs(work).child(UNFINISHED)
    left = [path for path in sizes_below(folder) if path.partition("/")[0].rpartition("-")[0] in names]
    for path in left:
        with contextlib.suppress(FileNotFoundError):
            folder.fs.rm_file(f"{folder.path}/{path}")
    if folder.local and os.path.isdir(folder.path):
        for path in os.listdir(folder.path):
            if path.rpartition("-")[0] in names:
                shutil.rmtree(os.path.join(folder.path, path), ignore_errors=True)
        with contextlib.suppress(OSError):  # another run's jobs write there
            os.rmdir(folder.path)
    return len(left)


def fill(value: Any, words: Mapping[str, str]) -> Any:
    """Put words into texts, also in lists and mappings. Braces around anything else stay."""
    if isinstance(value, str):
        return _WORD.sub(lambda found: words.get(found[1], found[0]), value)
    if isinstance(value, Mapping):
        return {key: fill(item, words) for key, item in value.items()}
    return [fill(item, words) for item in value] if isinstance(value, list | tuple) else value


def for_program(uri: str) -> str:
    """What a program can open that knows nothing of Airflow."""
    return storage.split_connection(uri)[1].removeprefix("file://")


def _words(name: str) -> dict[str, str]:
    return {"name": name, "stem": name.rpartition(".")[0] or name}


def _split(uri: str, variable: re.Pattern[str]) -> tuple[str, str]:
    """The folder that is the same for all, and the rest."""
    found = variable.search(uri) if isinstance(uri, str) else None
    if found is None:
        return uri, ""
    cut = uri.rfind("/", 0, found.start()) + 1
    return uri[:cut], uri[cut:]


def _outputs(work: FileWork) -> Location:
    return storage.open_path("output", work.outputs)


def _rename(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    sync(source)  # else a machine that fails may leave the name without the content
    os.replace(source, target)
    sync(os.path.dirname(target))
    with contextlib.suppress(OSError):  # the program may have left something beside it
        os.rmdir(os.path.dirname(source))
