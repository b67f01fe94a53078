"""What is created for a plain job: one batch/v1 Job. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from dask_provider.clusters.kubernetes_job import CONTAINER, KubernetesJob
from dask_provider.hooks.kubernetes.manifests import NO_SIDECAR, PREFIX, labels, owner_note
from dask_provider.hooks.kubernetes.objects import Object, attempt_notes
from dask_provider.hooks.kubernetes.own_manifest import merged
from dask_provider.hooks.kubernetes.pods import STAY, with_env
from dask_provider.owner import Attempt, Owner

#: label by which Kueue queues a Job
QUEUE = "kueue.x-k8s.io/queue-name"


def spec_hash(spec: KubernetesJob) -> str:
    """Digest of what runs; a retry adopts an older Job only if this is equal."""
    text = json.dumps(_pod(spec), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def job(spec: KubernetesJob, owner: Owner, attempt: Attempt, *, namespace: str) -> Object:
    """The Job, suspended. Nothing owns it: once it was let go it ends by its deadline and goes by its time to live.

    One that nobody lets go has no pod, and stays until a later try or somebody deletes it: neither time counts for it.
    """
    name, note = f"{owner.name}-{attempt.number}", owner_note(owner)
    # Its cluster is nobody's: what looks for the jobs of a cluster must not find it.
    ours = {key: value for key, value in labels(owner, "job").items() if key != f"{PREFIX}/cluster"}
    ours = {**spec.labels, **ours}
    ours_to_read = {"plain": "true", "spec-hash": spec_hash(spec), **attempt_notes(attempt)}
    notes = {f"{PREFIX}/{key}": text for key, text in ours_to_read.items()}
    pod = _pod(spec)
    # The first: Kubernetes fills in $(DASK_JOB_ID) in arguments, and in variables that come after it.
    container = pod["containers"][0]
    others = [item for item in container.get("env") or [] if item.get("name") != "DASK_JOB_ID"]
    container["env"] = [{"name": "DASK_JOB_ID", "value": name}, *others]
    pod_notes = {**spec.annotations, **note, **STAY}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": ours,
            "annotations": {**spec.annotations, **note, **notes},
        },
        "spec": {
            # The first try, too: it may be an orphan beside a second one.
            "suspend": QUEUE not in ours,
            "backoffLimit": 0,  # Airflow retries
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": spec.deadline,
            "ttlSecondsAfterFinished": spec.keep,
            "template": {"metadata": {"labels": {**ours, **NO_SIDECAR}, "annotations": pod_notes}, "spec": pod},
        },
    }


def waits_for_us(job: Object) -> bool:
    """Whether we have suspended it; where there is a queue, Kueue does, and lets it go."""
    return bool(job["spec"].get("suspend")) and QUEUE not in (job["metadata"].get("labels") or {})


def _pod(spec: KubernetesJob) -> Object:
    """``spec_schema`` with the fields laid over it."""
    schema: Object = merged({}, spec.spec_schema)
    container: Object = {"name": CONTAINER, **merged({}, spec.container)}
    said: Object = {
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "command": list(spec.cmd),
        "args": list(spec.arguments),
        "resources": {part: dict(of) for part, of in (spec.quantities or {}).items() if of},
    }
    container |= {name: value for name, value in said.items() if value}
    if spec.env:
        with_env(container, spec.env)
    _add(container, "envFrom", spec.env_from)
    _add(container, "volumeMounts", spec.volume_mounts)
    schema.update(
        {
            "restartPolicy": "Never",
            "containers": [container],
            "nodeSelector": {**schema.get("nodeSelector", {}), **spec.node_selector},
        }
    )
    _add(schema, "tolerations", spec.tolerations)
    _add(schema, "volumes", spec.volumes)
    _add(schema, "imagePullSecrets", [{"name": name} for name in spec.image_pull_secrets])
    if spec.service_account is not None:
        schema["serviceAccountName"] = spec.service_account
    # A program has no use for Kubernetes' own API, unless it was given an account.
    schema.setdefault("automountServiceAccountToken", bool(schema.get("serviceAccountName")))
    schema.setdefault("enableServiceLinks", False)
    schema.setdefault("terminationGracePeriodSeconds", 10)
    return schema


def _add(made: Object, name: str, items: Any) -> None:
    if items:
        made[name] = [*(made.get(name) or []), *(merged({}, item) for item in items)]
