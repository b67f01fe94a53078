"""What is asked of Dataproc for a job, built of bundle and attempt. Pure, but for reading the launcher's source.

https://cloud.google.com/dataproc/docs/reference/rest/v1/projects.regions.jobs
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from importlib import resources
from typing import Any

from dask_provider.hooks.dataproc.requests import attempt_labels, instance_label
from dask_provider.jobs import Bundle
from dask_provider.owner import Attempt, Owner

Object = dict[str, Any]

#: labels of a job
INSTANCE, OWNER, SPEC = "dask-provider-instance", "dask-provider-owner", "dask-provider-spec"
#: label of a job that its own task has ended (:data:`CANCELLED`), or that a later try has put aside
ENDING, CANCELLED, SUPERSEDED = "dask-provider-ending", "cancelled", "superseded"


def job_request(
    bundle: Bundle,
    job_id: str,
    attempt: Attempt,
    *,
    cluster: str,
    main: str,
    python: str,
    labels: dict[str, str],
    properties: dict[str, str],
) -> Object:
    """The body of ``jobs.submit``.

    :param cluster: name of the cluster.
    :param main: URI of :func:`main_file`.
    :param python: Python of Dask's environment on the machines.
    :param labels: those of the cluster that the user chose.
    :param properties: of Spark, by the cluster's spec.
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
                    **properties,
                    "spark.submit.deployMode": "client",
                    "spark.pyspark.python": python,
                    "spark.pyspark.driver.python": python,
                },
            },
        }
    }


def owned_by(job: Object, owner: Owner) -> bool:
    """Whether a job is this owner's."""
    labels = job.get("labels") or {}
    return (labels.get(INSTANCE), labels.get(OWNER)) == (instance_label(owner.instance), owner.name)


def main_file(bundle: Bundle, job_json: bytes) -> bytes:
    """The job as one Python file.

    :param job_json: with ``yarn`` in it the runtime starts an application for the job.
    :raises InvalidInput: when its files are too large.
    """
    bundle.check_size()
    files = {**bundle.files, "job.json": job_json}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path), files[path], zipfile.ZIP_DEFLATED)
    launcher = (resources.files("dask_provider.runtime") / "launcher.py").read_bytes()
    command = ("yarn", "job") if "yarn" in json.loads(job_json) else ("job",)
    arguments = "".join(f', "{word}"' for word in command)
    return launcher + b'\n\nmain("' + base64.b85encode(packed.getvalue()) + f'"{arguments})\n'.encode()


def digest(content: bytes) -> str:
    """For the name of what is staged: equal content is staged once."""
    return hashlib.sha256(content).hexdigest()[:16]
