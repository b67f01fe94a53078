"""What is created for a cluster, object by object: pure functions of spec and owner.

No function sets an owner reference: the lease's uid is known only once it exists. ``owned(object, lease)`` adds it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from dask_provider import __version__
from dask_provider.clusters.kubernetes import KubernetesCluster
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes import pods
from dask_provider.hooks.kubernetes.objects import Object, attempt_notes
from dask_provider.hooks.kubernetes.own_manifest import MANIFEST, OVERRIDES, check_cluster, main_container, merged
from dask_provider.hooks.kubernetes.pods import COMM, HTTP, STAY, with_env
from dask_provider.owner import Attempt, Owner

#: prefix of our labels and annotations
PREFIX = "dask-provider"
DASK_API = "kubernetes.dask.org/v1"
#: where the lease sees the annotations of its own pod
_POD_INFO = "/etc/podinfo"
#: labels by which the operator knows its objects
_CLUSTER_NAME, _COMPONENT = "dask.org/cluster-name", "dask.org/component"
#: Istio's proxy would keep the pod of a Job from ever ending; the operator sets it on its pods, too
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
#: annotations of other programs, which are no wish of the user
_FOREIGN = re.compile(r"(dask-provider|kopf\.zalando\.org|kopf\.dev|kubectl\.kubernetes\.io)/")


def labels(owner: Owner, role: str, *, cluster: str | None = None) -> dict[str, str]:
    """The labels of every object of ours.

    :param role: ``lease``, ``cluster``, ``tls``, ``job`` or ``bundle``.
    :param cluster: name of the cluster that it belongs to; default: the owner's own.
    """
    return {
        "app.kubernetes.io/managed-by": "airflow-provider-dask",
        **_ours(instance=owner.instance, owner=owner.name, cluster=cluster or owner.name, role=role),
    }


def select(
    *, instance: str | None = None, owner: str | None = None, cluster: str | None = None, role: str | None = None
) -> str:
    """A label selector for objects of ours, all given values made fit for labels as :func:`labels` does."""
    wanted = _ours(instance=instance, owner=owner, cluster=cluster, role=role)
    return ",".join(f"{name}={value}" for name, value in wanted.items())


def _ours(**values: str | None) -> dict[str, str]:
    return {f"{PREFIX}/{name}": _label_value(text) for name, text in values.items() if text is not None}


def _label_value(text: str) -> str:
    """The text itself where it can be a label's value, else what can be of it and a digest."""
    if _LABEL_VALUE.fullmatch(text):
        return text
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40].strip("-")
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:10]}".strip("-")


def owner_note(owner: Owner) -> dict[str, str]:
    """The annotation that tells the whole owner: labels hold no more than 63 characters."""
    return {f"{PREFIX}/owner": json.dumps(owner.labels(), sort_keys=True)}


def owner_of(made: Mapping[str, Any]) -> Owner:
    """The owner that is written on an object of ours (annotation ``dask-provider/owner``).

    :raises KeyError: when there is none.
    """
    return Owner.from_labels(json.loads(made["metadata"]["annotations"][f"{PREFIX}/owner"]))


def owned(made: Object, by: Mapping[str, Any]) -> Object:
    """A copy of an object that goes when ``by`` goes.

    :param by: the lease (or the Job, or somebody else's DaskCluster) as the API server returned it: with its uid.
    """
    # Objects in a list come without their kind: those are Jobs.
    reference = {
        "apiVersion": by.get("apiVersion", "batch/v1"),
        "kind": by.get("kind", "Job"),
        "name": by["metadata"]["name"],
        "uid": by["metadata"]["uid"],
        "blockOwnerDeletion": by.get("kind", "Job") == "Job",  # whoever made a cluster need not wait for our jobs
    }
    return {**made, "metadata": {**made["metadata"], "ownerReferences": [reference]}}


def scheduler_address(cluster: str, namespace: str, *, tls: bool) -> str:
    """Where Dask clients inside the Kubernetes cluster connect: ``tcp://NAME-scheduler.NAMESPACE.svc:8786``."""
    # Without ".cluster.local": that is only the usual domain of a Kubernetes cluster.
    return f"{'tls' if tls else 'tcp'}://{cluster}-scheduler.{namespace}.svc:{COMM[0]}"


def scheduler_url(cluster: str, namespace: str) -> str:
    """The scheduler's HTTP server from inside: ``http://NAME-scheduler.NAMESPACE.svc:8787/``."""
    return f"http://{cluster}-scheduler.{namespace}.svc:{HTTP[0]}/"


def spec_hash(spec: KubernetesCluster, cluster: Mapping[str, Any]) -> str:
    """Digest of the spec; where that only names a manifest, also of what became of it."""
    if spec.manifest is None:
        return spec.hash()
    text = json.dumps([spec.hash(), cluster["spec"]], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dask_cluster(
    spec: KubernetesCluster, owner: Owner, *, namespace: str, manifest: Mapping[str, Any] | None = None
) -> Object:
    """The DaskCluster.

    :param manifest: the user's own, from :func:`~dask_provider.hooks.kubernetes.own_manifest.parse_manifest`.
    :raises InvalidInput: when manifest or ``manifest_overrides`` do not fit together with the other fields.
    """
    written = _of_manifest(spec, namespace, manifest) if manifest is not None else _of_spec(spec)
    written = merged(written, spec.manifest_overrides)
    check_cluster(written, OVERRIDES if spec.manifest_overrides else MANIFEST)
    made = copy.deepcopy(written["spec"])
    made.pop("idleTimeout", None)
    made["worker"]["replicas"] = spec.worker_range[0]
    scheduler = main_container(made["scheduler"]["spec"], "scheduler")
    with_env(scheduler, {**pods.SCHEDULER_ENV, **spec.env})
    _join(made["worker"]["spec"], spec, owner.name, namespace)
    if spec.tls:
        _add_tls(scheduler, owner.name)
    made["scheduler"]["service"]["selector"] = {_CLUSTER_NAME: owner.name, _COMPONENT: "scheduler"}
    return {
        "apiVersion": DASK_API,
        "kind": "DaskCluster",
        "metadata": _metadata(spec, owner, "cluster", namespace, of=written.get("metadata") or {}),
        "spec": made,
    }


def _of_spec(spec: KubernetesCluster) -> Object:
    stay = {"annotations": dict(STAY)}
    worker: Object = {"spec": pods.worker_pod(spec), **({} if spec.spot else {"metadata": stay})}
    scheduler = {"spec": pods.scheduler_pod(spec), "service": pods.scheduler_service(spec), "metadata": stay}
    return {"spec": {"scheduler": scheduler, "worker": worker}}


def _of_manifest(spec: KubernetesCluster, namespace: str, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    there = (manifest.get("metadata") or {}).get("namespace", namespace)
    if there != namespace:
        raise InvalidInput(MANIFEST, {"metadata.namespace": there}, f"no namespace, or {namespace} as in the spec")
    replicas = manifest["spec"]["worker"].get("replicas")
    if replicas is not None and replicas != spec.worker_range[0]:
        allowed = f"no replicas, or {spec.worker_range[0]} as in workers={spec.workers!r}"
        raise InvalidInput(MANIFEST, {"spec.worker.replicas": replicas}, allowed)
    return manifest


def _plain_metadata(owner: Owner, role: str, namespace: str, name: str) -> Object:
    return {"name": name, "namespace": namespace, "labels": labels(owner, role), "annotations": owner_note(owner)}


def _metadata(
    spec: KubernetesCluster,
    owner: Owner,
    role: str,
    namespace: str,
    *,
    name: str | None = None,
    of: Mapping[str, Any] | None = None,
) -> Object:
    """:param of: metadata that the user wrote."""
    wanted = of or {}
    ours = _plain_metadata(owner, role, namespace, name or owner.name)
    said = {part: {**(wanted.get(part) or {}), **getattr(spec, part)} for part in ("labels", "annotations")}
    return {**ours, **{part: {**said[part], **ours[part]} for part in said}}


def _join(pod: Object, spec: KubernetesCluster, cluster: str, namespace: str) -> None:
    """Make a worker's pod find its scheduler. The operator would say tcp, and guess the domain of the cluster."""
    container = main_container(pod, "worker")
    address = scheduler_address(cluster, namespace, tls=spec.tls)
    with_env(container, {**spec.env, "DASK_SCHEDULER_ADDRESS": address})
    if spec.tls:
        _add_tls(container, cluster)


def _add_tls(container: Object, cluster: str) -> None:
    container["envFrom"] = [*(container.get("envFrom") or []), {"secretRef": {"name": f"{cluster}-tls"}}]


def lease(
    spec: KubernetesCluster, owner: Owner, attempt: Attempt, cluster: Mapping[str, Any], *, script: str
) -> Object:
    """The Job that owns everything else; its end is the cluster's end.

    Annotations: ``dask-provider/spec-hash``, ``/attempt``, ``/started``, ``/owner``, ``/version``, and ``/handle``,
    JSON with ``min_workers``, ``workers`` ([low, high]), ``groups`` (their names), ``ready_timeout``, ``idle_timeout``,
    ``tls`` and ``job_resources``.

    :param cluster: the DaskCluster from :func:`dask_cluster`: image, and nodes of its scheduler, are the lease's too.
    :param script: source of ``dask_provider/runtime/lease.py``.
    """
    said = said_by_user(cluster)
    metadata = _metadata(spec, owner, "lease", cluster["metadata"]["namespace"], of=said)
    handle = {
        "min_workers": spec.least_workers,
        "workers": list(spec.worker_range),
        "groups": sorted(spec.groups()),
        "ready_timeout": spec.ready_seconds,
        "idle_timeout": spec.idle_seconds,
        "tls": spec.tls,
        "job_resources": spec.job_quantities,
    }
    notes = {
        "spec-hash": spec_hash(spec, cluster),
        **attempt_notes(attempt),
        "version": __version__,
        "handle": json.dumps(handle, sort_keys=True),
    }
    metadata["annotations"] |= {f"{PREFIX}/{name}": text for name, text in notes.items()}
    annotations = {**said["annotations"], **owner_note(owner)}
    pod = {"labels": {**metadata["labels"], **NO_SIDECAR}, "annotations": annotations}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            # A lost pod (node drained, node lost) is no end: it is replaced for as long as the lease lasts.
            "backoffLimit": 1_000_000,
            "activeDeadlineSeconds": math.ceil(spec.lifetime_seconds),
            "ttlSecondsAfterFinished": 0,
            "template": {"metadata": pod, "spec": _lease_pod(spec, cluster, script)},
        },
    }


def _lease_pod(spec: KubernetesCluster, cluster: Mapping[str, Any], script: str) -> Object:
    """Needs no rights, no network but to the scheduler, and no file of the image but Python's own."""
    scheduler = cluster["spec"]["scheduler"]["spec"]
    image = main_container(scheduler, "scheduler")
    url = scheduler_url(cluster["metadata"]["name"], cluster["metadata"]["namespace"])
    times = [f"{spec.idle_seconds:g}", f"{spec.ready_seconds:g}"]
    same = (
        *("nodeSelector", "affinity", "priorityClassName", "schedulerName", "securityContext"),
        *("imagePullSecrets", "serviceAccountName"),  # both may hold the password of the registry
    )
    # Its node may be gone: half a minute instead of Kubernetes' five until another node takes it over.
    gone = [
        {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
        for what in ("not-ready", "unreachable")
    ]
    return {
        **{name: scheduler[name] for name in same if name in scheduler},
        "tolerations": [*(scheduler.get("tolerations") or []), *gone],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [
            {
                "name": "lease",
                **{name: image[name] for name in ("image", "imagePullPolicy") if name in image},
                # command, not args: nothing of the image's entry point is wanted here.
                "command": ["python3", "-I", "-u", "-c", script, url, *times, f"{_POD_INFO}/annotations"],
                "resources": {
                    "requests": {"cpu": "5m", "memory": "32Mi"},
                    "limits": {"cpu": "100m", "memory": "64Mi"},  # some quotas demand limits
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "podinfo", "mountPath": _POD_INFO, "readOnly": True}],
            }
        ],
        "volumes": [
            {
                "name": "podinfo",
                "downwardAPI": {"items": [{"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}]},
            }
        ],
    }


def said_by_user(cluster: Mapping[str, Any]) -> Object:
    """What the user wrote of a cluster's labels and annotations, also from one that the API server returned."""
    metadata = cluster["metadata"]
    said = (metadata.get("annotations") or {}).items()
    return {
        "labels": dict(metadata.get("labels") or {}),
        "annotations": {name: value for name, value in said if not _FOREIGN.match(name)},
    }


def worker_groups(spec: KubernetesCluster, owner: Owner, *, namespace: str) -> list[Object]:
    """A DaskWorkerGroup for each of ``spec.worker_groups``, named ``NAME-<group>``."""
    made = []
    for name, group in spec.groups().items():
        pod = pods.worker_pod(group)
        _join(pod, group, owner.name, namespace)
        metadata = _metadata(spec, owner, "cluster", namespace, name=f"{owner.name}-{name}")
        metadata["labels"] |= {_CLUSTER_NAME: owner.name, _COMPONENT: "workergroup"}
        worker: Object = {"replicas": group.worker_range[0], "spec": pod}
        if not spec.spot:
            worker["metadata"] = {"annotations": dict(STAY)}
        made.append(
            {
                "apiVersion": DASK_API,
                "kind": "DaskWorkerGroup",
                "metadata": metadata,
                "spec": {"cluster": owner.name, "worker": worker},
            }
        )
    return made


def autoscaler(owner: Owner, *, namespace: str, low: int, high: int) -> Object:
    """The DaskAutoscaler of an elastic cluster."""
    return {
        "apiVersion": DASK_API,
        "kind": "DaskAutoscaler",
        "metadata": _plain_metadata(owner, "cluster", namespace, owner.name),
        "spec": {"cluster": owner.name, "minimum": low, "maximum": high},
    }


def tls_secret(owner: Owner, pem: Mapping[str, str], *, namespace: str) -> Object:
    """The Secret ``NAME-tls``: Dask's settings for encrypted traffic, for ``envFrom``.

    :param pem: PEM text by ``ca``, ``cert`` and ``key``; one certificate serves scheduler, workers and clients.
    """
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    roles = [(role, part) for role in ("SCHEDULER", "WORKER", "CLIENT") for part in ("CERT", "KEY")]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _plain_metadata(owner, "tls", namespace, f"{owner.name}-tls"),
        "type": "Opaque",
        "immutable": True,
        "stringData": {
            f"{tls}CA_FILE": pem["ca"],
            **{f"{tls}{role}__{part}": pem[part.lower()] for role, part in roles},
            "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tls",
            "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        },
    }
