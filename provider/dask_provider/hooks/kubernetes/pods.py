"""The pods of scheduler and workers, as a spec wants them. Pure.

The operator's CRD knows the pods of Kubernetes 1.21; what is newer would be dropped without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask_provider.clusters.kubernetes import DEFAULT_IMAGE, KubernetesCluster
from dask_provider.clusters.kubernetes_fields import Resources
from dask_provider.hooks.kubernetes.objects import Object

#: port and name that the operator looks for
COMM, HTTP = (8786, "tcp-comm"), (8787, "http-dashboard")
WORKER_HTTP = 8788
#: what keeps node autoscalers from moving a pod; a moved scheduler is a lost cluster
STAY = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
#: dask's default, and the API by which operator and lease ask whether the cluster is idle
_ROUTES = (
    '["distributed.http.scheduler.prometheus","distributed.http.scheduler.info","distributed.http.scheduler.json",'
    '"distributed.http.scheduler.api","distributed.http.health","distributed.http.proxy","distributed.http.statics"]'
)
SCHEDULER_ENV = {"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": _ROUTES}
#: a worker that is told to end while its scheduler does often hangs, and would sit out the default of 30 s; one that
#: does not hang takes a second
_GRACE = 2


def scheduler_pod(spec: KubernetesCluster) -> Object:
    """Kept away from spot nodes. It has no liveness probe: a scheduler is silent for minutes over a large graph, or
    while packages are installed, and a restarted one has lost all results."""
    container = _container(spec, "scheduler", ["dask", "scheduler"], spec.scheduler_quantities)
    container["ports"] = [{"name": name, "containerPort": port, "protocol": "TCP"} for port, name in (COMM, HTTP)]
    # Not the port that clients speak to: its log would fill with broken handshakes.
    container["readinessProbe"] = {
        "httpGet": {"port": HTTP[1], "path": "/health"},
        "periodSeconds": 1,
        "timeoutSeconds": 3,
    }
    return _pod(spec, container, _away_from(spec.affinity, spec.spot), spec.node_selector, spec.tolerations)


def worker_pod(spec: KubernetesCluster) -> Object:
    """One Dask worker a pod, on spot nodes where there are such."""
    spot = spec.spot or {}
    arguments = [
        *("dask", "worker", "--name", "$(DASK_WORKER_NAME)"),
        *("--nthreads", str(spec.thread_count), "--memory-limit", str(spec.dask_memory)),
        # Its metrics without its dashboard, whose libraries cost each worker a second and 50 MB.
        *("--no-dashboard", "--dashboard-address", f":{WORKER_HTTP}"),
        *spec.worker_args,
    ]
    container = _container(spec, "worker", arguments, spec.worker_quantities)
    container["ports"] = [{"name": HTTP[1], "containerPort": WORKER_HTTP, "protocol": "TCP"}]
    tolerated = [{"key": key, "operator": "Equal", "value": value} for key, value in spot.items()]
    return _pod(spec, container, spec.affinity, {**spec.node_selector, **spot}, [*spec.tolerations, *tolerated])


def scheduler_service(spec: KubernetesCluster) -> Object:
    """The Service by which operator, workers and clients find the scheduler; its selector needs the cluster's name."""
    ports: list[Object] = []
    for (port, name), node_port in zip((COMM, HTTP), spec.node_ports, strict=True):
        chosen = {} if node_port is None else {"nodePort": node_port}
        ports.append({"name": name, "protocol": "TCP", "port": port, "targetPort": name, **chosen})
    return {"type": spec.service_type, "ports": ports}


def with_env(container: Object, env: Mapping[str, str]) -> None:
    """Set environment variables of a container, in place of those of the same names."""
    others = [item for item in container.get("env") or [] if item.get("name") not in env]
    container["env"] = [*others, *({"name": name, "value": value} for name, value in env.items())]


def _container(spec: KubernetesCluster, name: str, arguments: Sequence[str], resources: Resources) -> Object:
    # args, not command: the entry point of the image stays, which may activate an environment or install packages.
    container: Object = {"name": name, "image": spec.image or DEFAULT_IMAGE, "args": list(arguments)}
    if spec.image_pull_policy is not None:
        container["imagePullPolicy"] = spec.image_pull_policy
    container["resources"] = {part: amounts for part, amounts in resources.items() if amounts}
    with_env(container, spec.pod_env)
    if spec.env_from:
        container["envFrom"] = [dict(item) for item in spec.env_from]
    if spec.volume_mounts:
        container["volumeMounts"] = [dict(item) for item in spec.volume_mounts]
    if spec.run_as_user is not None:
        container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return container


def _pod(
    spec: KubernetesCluster,
    container: Object,
    affinity: Mapping[str, Any],
    nodes: Mapping[str, str],
    tolerations: Sequence[Mapping[str, Any]],
) -> Object:
    pod: Object = {
        "containers": [container],
        "terminationGracePeriodSeconds": _GRACE,
        # Otherwise every Service of the namespace becomes variables, and Dask reads those that start with DASK_.
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,  # clouds project tokens of their own
    }
    if spec.service_account is not None:
        pod["serviceAccountName"] = spec.service_account
    if spec.run_as_user is not None:
        user = int(spec.run_as_user)
        pod["securityContext"] = {
            "runAsUser": user,
            "runAsNonRoot": True,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in spec.image_pull_secrets]
    optional = {
        "nodeSelector": dict(nodes),
        "tolerations": [dict(item) for item in tolerations],
        "affinity": dict(affinity),
        "volumes": [dict(item) for item in spec.volumes],
    }
    return {**pod, **{name: value for name, value in optional.items() if value}}


def _away_from(affinity: Mapping[str, Any], spot: Mapping[str, str] | None) -> Object:
    """The affinity, and no node with a label of spot nodes."""
    if not spot:
        return dict(affinity)
    nowhere = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in spot.items()]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    of_nodes = dict(affinity.get("nodeAffinity") or {})
    # One of the terms must hold, so each has to say it.
    terms = (of_nodes.get(required) or {}).get("nodeSelectorTerms") or [{}]
    said = [{**term, "matchExpressions": [*term.get("matchExpressions", []), *nowhere]} for term in terms]
    return {**affinity, "nodeAffinity": {**of_nodes, required: {"nodeSelectorTerms": said}}}
