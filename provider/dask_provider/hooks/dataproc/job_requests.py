"""What is asked of Dataproc for a job, built of bundle and attempt. Pure, but for reading the launcher's source.

https://cloud.google.com/dataproc/docs/reference/rest/v1/projects.regions.jobs
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib import resources
from typing import Any

from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc.requests import instance_label
from dask_provider.jobs import Bundle
from dask_provider.owner import Attempt, Owner
from dask_provider.units import human_bytes

Object = dict[str, Any]

#: labels of a job
INSTANCE, OWNER, SPEC = "dask-provider-instance", "dask-provider-owner", "dask-provider-spec"
ATTEMPT, STARTED = "dask-provider-attempt", "dask-provider-started"
#: parts of a second; a power of two, so that a start comes back as it was: no try may seem to overtake itself
TICKS = 2**22
#: label of a job that its own task has ended (:data:`CANCELLED`), or that a later try has put aside
ENDING, CANCELLED, SUPERSEDED = "dask-provider-ending", "cancelled", "superseded"
#: bytes of a job's files; all of them are one Python file
MOST_BYTES = 64 * 2**20


def job_request(
    bundle: Bundle, job_id: str, attempt: Attempt, *, cluster: str, main: str, python: str, labels: dict[str, str]
) -> Object:
    """The body of ``jobs.submit``.

    :param cluster: name of the cluster.
    :param main: URI of :func:`main_file`.
    :param python: Python of Dask's environment on the machines.
    :param labels: those of the cluster that the user chose.
    """
    return {
        "job": {
            "reference": {"jobId": job_id},
            "placement": {"clusterName": cluster},
            "labels": {
                **labels,
                INSTANCE: instance_label(bundle.owner.instance),
                OWNER: bundle.owner.name,
                SPEC: bundle.spec_hash,
                **attempt_labels(attempt),
            },
            "pysparkJob": {
                "mainPythonFileUri": main,
                "properties": {
                    "spark.submit.deployMode": "client",
                    "spark.pyspark.python": python,
                    "spark.pyspark.driver.python": python,
                },
            },
        }
    }


def attempt_labels(attempt: Attempt) -> dict[str, str]:
    """Whose a job is now; the start as a whole number, as labels know no point."""
    return {ATTEMPT: str(attempt.number), STARTED: str(int(attempt.started * TICKS))}


def attempt_of(job: Object) -> tuple[int, float]:
    """Number and start of the try that has a job."""
    labels = job.get("labels") or {}
    return int(labels.get(ATTEMPT) or 0), int(labels.get(STARTED) or 0) / TICKS


def owned_by(job: Object, owner: Owner) -> bool:
    """Whether a job is this owner's."""
    labels = job.get("labels") or {}
    return (labels.get(INSTANCE), labels.get(OWNER)) == (instance_label(owner.instance), owner.name)


def main_file(bundle: Bundle, job_json: bytes) -> bytes:
    """The job as one Python file.

    :raises InvalidInput: when its files are too large.
    """
    files = {**bundle.files, "job.json": job_json}
    size = sum(map(len, files.values()))
    if size > MOST_BYTES:
        largest = max(bundle.files, key=lambda path: len(bundle.files[path]))
        raise InvalidInput(
            "script, files, py_files, arguments of the callable",
            f"{human_bytes(size)} (the largest is {largest}, {human_bytes(len(files[largest]))})",
            f"{human_bytes(MOST_BYTES)} in all; put larger files at a URI that the program reads",
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path), files[path], zipfile.ZIP_DEFLATED)
    launcher = (resources.files("dask_provider.runtime") / "launcher.py").read_bytes()
    return launcher + b'\n\nmain("' + base64.b85encode(packed.getvalue()) + b'")\n'


def digest(content: bytes) -> str:
    """For the name of what is staged: equal content is staged once."""
    return hashlib.sha256(content).hexdigest()[:16]
