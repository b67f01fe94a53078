"""The batch/v1 Job that is created for a job; its files: :mod:`.bundles`. Pure."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

from dask_provider.clusters.kubernetes import JOB_MOUNTS
from dask_provider.hooks.kubernetes import bundles
from dask_provider.hooks.kubernetes.manifests import NO_SIDECAR, PREFIX, labels, owner_note, said_by_user
from dask_provider.hooks.kubernetes.objects import Object, attempt_notes, note
from dask_provider.hooks.kubernetes.own_manifest import main_container
from dask_provider.hooks.kubernetes.pods import STAY
from dask_provider.hooks.kubernetes.times import seconds
from dask_provider.jobs import ARCHIVE, Bundle
from dask_provider.owner import Attempt

BUNDLE, FOLDER = JOB_MOUNTS["dask-bundle"], JOB_MOUNTS["dask-job"]
#: how long an ended job stays when its cluster stays as long
KEEP_SECONDS = 86400
#: seconds that a task has to end its job by itself, once its time is over
AFTER_TASK = 60.0
#: parts of the scheduler's pod that are not for a job
_NOT_OF_JOBS = ("containers", "restartPolicy", "readinessGates", "hostname", "subdomain", "activeDeadlineSeconds")
_OF_CONTAINER = ("image", "imagePullPolicy", "env", "envFrom", "securityContext")


def job(
    cluster: Mapping[str, Any],
    bundle: Bundle,
    job_id: str,
    attempt: Attempt,
    *,
    resources: Mapping[str, Any],
    deadline_seconds: float,
    now: float,
) -> Object:
    """The suspended Job ``job_id``; it has to be owned by the lease and resumed once its ConfigMap is there.

    :param cluster: the DaskCluster (as read from the API server): the job's pod is like that of its scheduler.
    :param resources: ``job_resources`` from the lease's annotation ``dask-provider/handle``.
    :param attempt: whose it is; a job ends when its task gives up, if that is before its own deadline.
    :param deadline_seconds: how long it may run at most.
    :param now: seconds since the epoch.
    """
    said, whose = said_by_user(cluster), owner_note(bundle.owner)
    ours = {**said["labels"], **labels(bundle.owner, "job", cluster=cluster["metadata"]["name"])}
    notes = {
        "spec-hash": bundle.spec_hash,
        **attempt_notes(attempt),
        "at-most": f"{deadline_seconds:.0f}",
        "results": bundle.results(job_id),
        "manifest": bundle.manifest(job_id),
    }
    annotations = {**said["annotations"], **whose, **{f"{PREFIX}/{key}": text for key, text in notes.items()}}
    spec: Object = {
        "suspend": True,
        "backoffLimit": 0,  # Airflow retries
        "completions": 1,
        "parallelism": 1,
        "activeDeadlineSeconds": _limit(deadline_seconds, attempt, now),
        "ttlSecondsAfterFinished": KEEP_SECONDS,
        "template": {
            "metadata": {"labels": {**ours, **NO_SIDECAR}, "annotations": {**said["annotations"], **whose, **STAY}},
            "spec": _pod(cluster, job_id, [*bundles.in_config_map(bundle), bundles.JOB], resources),
        },
    }
    metadata = {"name": job_id, "namespace": cluster["metadata"]["namespace"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "labels": ours, "annotations": annotations},
        "spec": spec,
    }


def seconds_of_adopted(job: Mapping[str, Any], attempt: Attempt, now: float) -> int | None:
    """The limit of a job from :func:`job` that another try goes on with, which has a time-out of its own.

    :returns: ``None`` for a plain job, which has no limit but its user's.
    """
    at_most = note(job, "at-most")
    began = (job.get("status") or {}).get("startTime")  # Kubernetes counts from there
    return None if at_most is None else _limit(float(at_most), attempt, seconds(began) if began else now)


def _limit(at_most: float, attempt: Attempt, began: float) -> int:
    ends = math.inf if attempt.deadline is None else attempt.deadline + AFTER_TASK
    return max(1, round(min(at_most, ends - began)))


def _pod(cluster: Mapping[str, Any], job_id: str, paths: Iterable[str], resources: Mapping[str, Any]) -> Object:
    """Like the scheduler's: image, environment, certificates, volumes, nodes; without containers beside it."""
    scheduler = copy.deepcopy(cluster["spec"]["scheduler"]["spec"])
    like = main_container(scheduler, "scheduler")
    # Not the bundle's own folder: nothing can be written there. A folder that the program's user makes, and owns.
    command = ["python3", f"{BUNDLE}/{ARCHIVE}", "job", f"{BUNDLE}/{bundles.JOB}", f"{FOLDER}/run"]
    container = {
        "name": "job",
        **{name: like[name] for name in _OF_CONTAINER if name in like},
        # As with the scheduler the entry point of the image stays (args), or does not (command).
        ("command" if like.get("command") else "args"): command,
        "resources": {part: dict(amounts) for part, amounts in resources.items() if amounts},
        "volumeMounts": [
            *(like.get("volumeMounts") or []),
            {"name": bundles.VOLUME, "mountPath": BUNDLE, "readOnly": True},
            {"name": "dask-job", "mountPath": FOLDER},
        ],
    }
    items = [{"key": bundles.key(path), "path": path} for path in sorted(paths)]
    volumes = [
        *(scheduler.get("volumes") or []),
        {"name": bundles.VOLUME, "configMap": {"name": job_id, "items": items}},
        {"name": "dask-job", "emptyDir": {}},
    ]
    return {
        **{name: value for name, value in scheduler.items() if name not in _NOT_OF_JOBS},
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 10,
        "containers": [container],
        "volumes": volumes,
    }
