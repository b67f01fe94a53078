"""What to run beside a cluster, and the bundle of files that does it. Pure, but for reading the runtime's source."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from dask_provider.errors import InvalidInput
from dask_provider.owner import Owner
from dask_provider.storage import split_connection
from dask_provider.units import human_bytes

#: the runtime as one file in every bundle
ARCHIVE = "dask_job_runtime.pyz"
#: bytes of all files of a bundle: they pass through the memory of Airflow's worker
MOST_BYTES = 64 * 2**20
#: stands in arguments and environment for the id of the job, which only the place knows (written as Kubernetes does it)
JOB_ID = "$(DASK_JOB_ID)"
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One program, its inputs already read.

    :param script: name and content of a Python file to run; or
    :param module: importable module to run as ``python -m``; or
    :param call: cloudpickle of (function, args, kwargs).
    :param arguments: command line of script or module.
    :param files: extra files by name, placed in the working directory of the program.
    :param py_files: Python files and archives by name, importable by program and workers.
    :param env: extra environment of the program.
    :param performance_report: keep Dask's performance report.
    :raises InvalidInput: for none or several of script, module and call, and for names that cannot be placed.
    """

    script: tuple[str, bytes] | None = None
    module: str | None = None
    call: bytes | None = None
    arguments: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    py_files: Mapping[str, bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    performance_report: bool = True

    def __post_init__(self) -> None:
        given = [name for name in ("script", "module", "call") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidInput("script, module, callable", given or None, "exactly one of the three")
        if self.script is not None and not self.script[1].strip():
            raise InvalidInput("script", self.script[0], "a Python file that is not empty")
        if self.module is not None and not _MODULE.fullmatch(self.module):
            raise InvalidInput("module", self.module, "a dotted module name, as for python -m")
        for name in (*self.files, *self.py_files):
            if "/" in name or name in ("", ".", ".."):
                raise InvalidInput("files", name, "plain file names, each once")
        for name in self.py_files:
            if not name.endswith((".py", ".zip", ".egg")):
                raise InvalidInput("py_files", name, "files that end in .py, .zip or .egg")

    def program(self) -> dict[str, Any]:
        """What the runtime starts."""
        if self.script is not None:
            return {"kind": "script", "path": self.script[0], "arguments": list(self.arguments)}
        if self.module is not None:
            return {"kind": "module", "module": self.module, "arguments": list(self.arguments)}
        return {"kind": "call", "path": "call.pkl"}


@dataclass(frozen=True)
class Bundle:
    """All files of a job but ``job.json``, which the place completes: only it knows the scheduler's address.

    :param owner: whose job it is.
    :param spec_hash: digest of program and files; a retry adopts an older job only if this is equal.
    :param files: content by path inside the bundle.
    :param job: the fields of ``job.json`` that do not depend on the place.
    :param staging: URI prefix below which the job leaves its results, ends with ``/``.
    """

    owner: Owner
    spec_hash: str
    files: Mapping[str, bytes]
    job: Mapping[str, Any]
    staging: str

    def job_id(self, attempt: int) -> str:
        """Deterministic id of the job that this attempt starts."""
        return f"{self.owner.name}-{attempt}"

    def results(self, job_id: str) -> str:
        """URI prefix of what the job writes."""
        return f"{staged(self.staging, self.owner, job_id)}results/"

    def manifest(self, job_id: str) -> str:
        """URI of the list of what it wrote."""
        return f"{staged(self.staging, self.owner, job_id)}manifest.json"

    def check_size(self, elsewhere: str = "") -> None:
        """:raises InvalidInput: when the files are too large; ``elsewhere`` says where others may lie."""
        size = sum(map(len, self.files.values()))
        if size > MOST_BYTES:
            largest = max(self.files, key=lambda path: len(self.files[path]))
            raise InvalidInput(
                "script, files, py_files, arguments of the callable",
                f"{human_bytes(size)} (the largest is {largest}, {human_bytes(len(self.files[largest]))})",
                f"{human_bytes(MOST_BYTES)} in all; put larger files at a URI that the program reads{elsewhere}",
            )

    def job_json(self, job_id: str, **of_place: Any) -> bytes:
        """The runtime's instructions.

        :param of_place: ``scheduler``, ``tls``, ``min_workers``, ``ready_timeout``, ``activity_file``, perhaps
            ``fetch``, and ``cluster_env``, which the job's own environment overrides.
        """
        env = {**of_place.pop("cluster_env"), **self.job["env"]}
        env = {name: text.replace(JOB_ID, job_id) for name, text in env.items()}
        program = dict(self.job["program"])
        if "arguments" in program:
            program["arguments"] = [text.replace(JOB_ID, job_id) for text in program["arguments"]]
        fields = {
            "version": 1,
            "job_id": job_id,
            # A connection in the URI is Airflow's: a job has its machine's own rights.
            "results": split_connection(self.results(job_id))[1],
            "manifest": split_connection(self.manifest(job_id))[1],
            **self.job,
            **of_place,
            "program": program,
            "env": env,
        }
        return json.dumps(fields).encode()


def staged(staging: str, owner: Owner, job_id: str) -> str:
    """URI prefix of what a job leaves until it is stored, ends with ``/``."""
    return f"{staging}{owner.instance}/{owner.name}/{job_id}/"


def make_bundle(job: Job, owner: Owner, staging: str) -> Bundle:
    """Everything that a place needs to run the job.

    :param staging: URI prefix for results, ends with ``/``.
    """
    files = {ARCHIVE: runtime_archive()}
    if job.script is not None:
        files[job.script[0]] = job.script[1]
    if job.call is not None:
        files["call.pkl"] = job.call
    files.update({f"work/{name}": content for name, content in job.files.items()})
    files.update({f"py_files/{name}": content for name, content in job.py_files.items()})
    fields = {
        "program": job.program(),
        "env": dict(job.env),
        "py_files": [f"py_files/{name}" for name in job.py_files],
        "performance_report": job.performance_report,
        "pickled_with": f"{sys.version_info[0]}.{sys.version_info[1]}" if job.call is not None else None,
    }
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for path in sorted(files):
        # Not the runtime: a new provider version does not make it another job. Not a pickle's bytes: they vary.
        if path not in (ARCHIVE, "call.pkl"):
            digest.update(path.encode() + b"\0" + hashlib.sha256(files[path]).digest())
    return Bundle(owner, digest.hexdigest()[:16], files, fields, staging)


@functools.cache
def runtime_archive() -> bytes:
    """The runtime package as one executable zip file, byte for byte the same for the same source."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        start = "import sys\nfrom dask_job_runtime.__main__ import run\nrun(sys.argv[1:])\n"
        archive.writestr(zipfile.ZipInfo("__main__.py"), start)
        sources = sorted(resources.files("dask_provider.runtime").iterdir(), key=lambda item: item.name)
        for source in sources:
            if source.name.endswith(".py"):
                archive.writestr(zipfile.ZipInfo(f"dask_job_runtime/{source.name}"), source.read_bytes())
    return buffer.getvalue()
