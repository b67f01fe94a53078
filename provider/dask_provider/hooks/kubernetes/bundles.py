"""How the files of a job come to its pod: small ones in a ConfigMap, larger ones by way of the staging area."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from typing import Any

from dask_provider import storage
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes.manifests import PREFIX, owner_note
from dask_provider.hooks.kubernetes.objects import Object
from dask_provider.jobs import ARCHIVE, Bundle
from dask_provider.units import human_bytes

JOB, VOLUME = "job.json", "dask-bundle"
#: bytes of a ConfigMap; Kubernetes takes 1 MiB
MOST_BYTES = 1_000_000
#: bytes of ``job.json`` that depend on place and time, and for each file that is fetched
_FRAME, _URI = 4096, 300


def in_config_map(bundle: Bundle) -> list[str]:
    """Paths of the files that a new Job gets by its ConfigMap: the runtime, and the smallest while there is room."""
    room = MOST_BYTES - _FRAME - len(json.dumps(bundle.job)) - _URI * len(bundle.files) - len(bundle.files[ARCHIVE])
    found = [ARCHIVE]
    for path in sorted(set(bundle.files) - {ARCHIVE}, key=lambda path: (len(bundle.files[path]), path)):
        room -= len(bundle.files[path])
        if room < 0:
            break
        found.append(path)
    return found


def mounted(job: Mapping[str, Any]) -> list[str]:
    """Paths of the files that a Job has by its ConfigMap, also one that another release of this package has made."""
    volumes = job["spec"]["template"]["spec"]["volumes"]
    (items,) = [volume["configMap"]["items"] for volume in volumes if volume["name"] == VOLUME]
    return [item["path"] for item in items if item["path"] != JOB]


def in_staging(bundle: Bundle, inside: Collection[str]) -> dict[str, str]:
    """URIs of the files that the job's runtime fetches by itself, by path. Each is named after its SHA-256.

    Equal files of many jobs are one, and each day has its own, so that a lifecycle rule removes none that is needed.
    They are apart from what jobs write: Airflow's user makes these folders.

    :param inside: those that come by the ConfigMap.
    :raises InvalidInput: when all files together are too large.
    """
    bundle.check_size(" or into the image")
    folder = f"{bundle.staging}bundles/{bundle.owner.instance}/{datetime.now(timezone.utc).date()}"
    larger = sorted(set(bundle.files) - set(inside))
    return {path: f"{folder}/{hashlib.sha256(bundle.files[path]).hexdigest()}" for path in larger}


def config_map(job: Mapping[str, Any], bundle: Bundle, job_json: bytes) -> Object:
    """The ConfigMap of a Job; it has to be owned by it.

    :param job: the Job from :func:`.job_manifests.job`.
    :raises InvalidInput: for more arguments than it holds.
    """
    files = {**{path: bundle.files[path] for path in mounted(job)}, JOB: job_json}
    size = sum(map(len, files.values()))
    if size > MOST_BYTES:
        allowed = f"what a ConfigMap holds beside the runtime, {human_bytes(MOST_BYTES)} in all"
        raise InvalidInput("arguments, env, names of files", human_bytes(len(job_json)), allowed)
    metadata = job["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {**metadata["labels"], f"{PREFIX}/role": "bundle"},
            "annotations": owner_note(bundle.owner),
        },
        "immutable": True,
        "binaryData": {key(path): base64.b64encode(content).decode() for path, content in files.items()},
    }


def key(path: str) -> str:
    """A path of the bundle as a key of a ConfigMap, which knows no folders and few characters."""
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def stage(bundle: Bundle, uris: Mapping[str, str]) -> None:
    """Write files to the staging area; those that are there stay. Blocks.

    :param uris: from :func:`in_staging`.
    :raises InvalidInput: when Airflow may not write there.
    """
    for path, uri in uris.items():
        at, content = storage.open_path("[dask] staging", uri), bundle.files[path]
        with storage.explained("[dask] staging", at, "a place to write to"):
            if at.fs.isfile(at.path) and at.fs.size(at.path) == len(content):
                continue
            if not at.local:
                at.fs.pipe_file(at.path, content)
                continue
            os.makedirs(os.path.dirname(at.path), exist_ok=True)
            written = f"{at.path}.{uuid.uuid4().hex[:8]}"  # what has the name is whole
            at.fs.pipe_file(written, content)
            os.replace(written, at.path)
