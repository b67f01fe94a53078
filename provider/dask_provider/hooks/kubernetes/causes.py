"""Why a cluster is not ready, or not gone, or a job does not run, told from the objects of Kubernetes. Pure.

All objects are the API server's JSON. Events are core/v1 Events, in any order, also of other objects.

What is fatal: only what waiting cannot cure - an image, Secret or service account that does not exist, a program that
keeps ending, a quota or policy that can never be met. A pod that no node takes is not: a node autoscaler may bring one,
another cluster may end. It is named at once all the same, and again at the time-out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dask_provider.clusters.kubernetes_fields import parse_resources
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes.objects import (
    Seen,
    component,
    condition,
    conditions,
    events_of,
    memory_limit,
    name_of,
)

#: seconds after which an operator that has not touched a new cluster is named
OPERATOR_SILENT = 10.0
#: restarts after which a container that ends again counts as broken
CRASHES = 1
_PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
#: what may be better the next time; the ConfigMap is missing for a moment in every new namespace
_PASSING = re.compile(
    r"time(d )?-?out|temporar|too ?many ?requests|rate limit|QPS exceeded|connection (refused|reset)|\bEOF\b|try again"
    r"|(status|code):? (code )?(429|5\d\d)|50[0234] (Internal|Bad|Service|Gateway)|context (deadline|canceled)"
    r"|failed to sync|kube-root-ca\.crt",
    re.IGNORECASE,
)
#: what nobody cures by waiting
_LASTING = re.compile(
    r"not found|non-existent|couldn't find key|check failed|is forbidden|denied the request|run as root|invalid",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<requested>\S+), used: (?P<used>\S+), limited: (?P<limited>\S+)"
)
#: finalizers that Kubernetes takes off by itself, once all that belongs to the object is gone; those of the operator
_BY_KUBERNETES, _BY_OPERATOR = ("foregroundDeletion", "orphan"), "kopf."
#: what older kubelets say in place of the reason
_BARE = re.compile(r'Back-off pulling image "[^"]*"')


@dataclass(frozen=True)
class Cause:
    """Why something is not running.

    :param text: one sentence for people.
    :param fatal: waiting does not help: fail now. Otherwise show it, and name it at the time-out.
    :param pod: name of the pod whose log tells more (it crashed); the caller appends its last lines.
    """

    text: str
    fatal: bool
    pod: str | None = None


def not_ready(
    cluster: Seen | None,
    deployments: Sequence[Seen],
    pods: Sequence[Seen],
    events: Sequence[Seen],
    *,
    age: float,
) -> Cause | None:
    """Why a cluster is not ready: what is fatal first, then the scheduler's cause before the workers', or ``None``.

    :param cluster: the DaskCluster.
    :param deployments: its Deployments.
    :param pods: its pods, without those of jobs and of the lease.
    :param events: of the namespace; those of other objects are passed over.
    :param age: seconds since the cluster was created.
    """
    if cluster is not None and (operator := _of_operator(cluster, deployments, age)):
        return operator
    ordered = sorted(pods, key=lambda pod: component(pod) != "scheduler")
    since = next((_ready_since(pod) for pod in ordered if component(pod) == "scheduler"), None)
    found = [cause for pod in ordered if (cause := pod_cause(pod, events, since))]
    found += [cause for deployment in deployments if (cause := _of_deployment(deployment))]
    return _worst(found)


def not_running(job: Seen, pod: Seen | None, events: Sequence[Seen]) -> Cause | None:
    """Why a job (or the lease) has no running pod, or ``None``."""
    if pod is not None:
        return pod_cause(pod, events)
    told = [
        _refused(f"Job {name_of(job)}", event.get("message", "")) for event in events_of(job, events, "FailedCreate")
    ]
    return _worst(told)


def not_gone(left: Mapping[str, Seen]) -> str:
    """Who keeps what is left of a deleted cluster, or nothing where no finalizer does.

    :param left: objects by ``Kind name``.
    """
    told = []
    for name, found in left.items():
        names = [each for each in found["metadata"].get("finalizers") or [] if each not in _BY_KUBERNETES]
        if any(each.startswith(_BY_OPERATOR) for each in names):
            told.append(f"{name} waits for the Dask operator, which does not answer")
        if others := [each for each in names if not each.startswith(_BY_OPERATOR)]:
            told.append(f"{name} is held by the finalizer {', '.join(others)}, which nobody takes off")
    return "; ".join(told)


def _worst(found: Iterable[Cause]) -> Cause | None:
    ordered = sorted(found, key=lambda cause: not cause.fatal)
    return ordered[0] if ordered else None


def _of_operator(cluster: Seen, deployments: Sequence[Seen], age: float) -> Cause | None:
    phase = (cluster.get("status") or {}).get("phase")
    if phase == "Error":
        return Cause(f"the Dask operator refuses the DaskCluster {name_of(cluster)}; its log says why", True)
    if deployments or age < OPERATOR_SILENT:
        return None
    if phase is None:
        # Not fatal: one that is restarted finds the cluster by itself.
        text = f"the Dask operator has not noticed the cluster for {age:.0f} s: is it running, and for this namespace?"
        return Cause(text, False)
    return Cause(f"the Dask operator has made nothing of the cluster for {age:.0f} s; its log says why", False)


def _of_deployment(deployment: Seen) -> Cause | None:
    """Pods that Kubernetes refuses to create: quota, service account, policies."""
    refused = condition(deployment, "ReplicaFailure")
    return (
        None if refused is None else _refused(component(deployment) or name_of(deployment), refused.get("message", ""))
    )


def _refused(what: str, message: str) -> Cause:
    if quota := _QUOTA.search(message):
        text = f"{what}: no pod within the quota {quota['name']}: requested {quota['requested']}, "
        text += f"used {quota['used']}, limit {quota['limited']}"
        return Cause(text, _beyond(quota["requested"], quota["limited"]))
    if "serviceaccount" in message and "not found" in message:
        # That of the name default comes a moment after its namespace.
        return Cause(f"{what}: the service account does not exist: {message}", '"default"' not in message)
    hint = "; set run_as_user" if "violates PodSecurity" in message else ""
    return Cause(f"{what}: no pod can be created: {message}{hint}", _lasts(message))


def _lasts(message: str) -> bool:
    return bool(_LASTING.search(message)) and not _PASSING.search(message)


def _beyond(requested: str, limited: str) -> bool:
    """Whether one pod alone asks for more than the whole quota; otherwise others may make room."""
    asked, most = (dict(part.partition("=")[::2] for part in text.split(",")) for text in (requested, limited))
    for name, amount in asked.items():
        plain = name.removeprefix("requests.").removeprefix("limits.")
        try:
            parse_resources("quota", {"requests": {plain: amount}, "limits": {plain: most.get(name, amount)}})
        except InvalidInput as error:
            if "above the limits" in error.allowed:
                return True
    return False


def pod_cause(pod: Seen, events: Sequence[Seen], scheduler_since: str | None = None) -> Cause | None:
    """Why a pod does not run (any more).

    :param scheduler_since: when the scheduler became ready; a worker that had started before may end for want of it.
    """
    status, what = pod.get("status") or {}, component(pod) or f"pod {name_of(pod)}"
    if status.get("reason") == "Evicted":  # its successor may fare better
        return Cause(f"{what}: evicted: {status.get('message', 'its node lacks resources')}", False)
    if "deletionTimestamp" in pod["metadata"] or status.get("phase") == "Succeeded":
        return None
    for each in conditions(pod):
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return _unscheduled(pod, what, each.get("message", each.get("reason", "")), events)
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return _worst(cause for each in statuses if (cause := _of_container(pod, what, each, events, scheduler_since)))


def _unscheduled(pod: Seen, what: str, message: str, events: Sequence[Seen]) -> Cause:
    told = [event.get("message", "") for event in events_of(pod, events, "NotTriggerScaleUp")]
    text = f"{what}: no node takes it: {'; '.join([message, *told[-1:]])}"
    # A claim that nobody has written is none that becomes bound.
    return Cause(text, bool(re.search(r"persistentvolumeclaim \S+ not found", message)))


def _of_container(
    pod: Seen, what: str, container: Seen, events: Sequence[Seen], scheduler_since: str | None
) -> Cause | None:
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated")
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULLING:
        return _unpulled(pod, what, container.get("image", "?"), reason, message, events)
    if reason in ("CreateContainerConfigError", "CreateContainerError"):
        hint = "; set run_as_user" if "run as root" in message else ""
        return Cause(f"{what}: its container cannot be made: {message}{hint}", _lasts(message))
    if reason == "CrashLoopBackOff":
        ended = (container.get("lastState") or {}).get("terminated")
        return None if ended is None else _crashed(pod, what, container, ended, scheduler_since)
    if ended is not None and ended.get("exitCode"):
        return _crashed(pod, what, container, ended, scheduler_since)
    if reason in ("ContainerCreating", "PodInitializing"):
        told = [event.get("message", "") for event in events_of(pod, events, "FailedMount", "FailedAttachVolume")]
        if told and "failed to sync" not in told[-1]:  # the kubelet has not looked yet
            return Cause(f"{what}: a volume cannot be mounted: {told[-1]}", _lasts(told[-1]))
    return None


def _unpulled(pod: Seen, what: str, image: str, reason: str, message: str, events: Sequence[Seen]) -> Cause:
    if bare := bool(_BARE.fullmatch(message)):
        told = [event.get("message", "") for event in events_of(pod, events, "Failed")]
        told = [text for text in told if "Failed to pull" in text]
        bare, message = not told, told[-1] if told else message
    fatal = not bare and not _PASSING.search(message)
    return Cause(f"{what}: the image {image} cannot be pulled ({reason}): {message}", fatal)


def _crashed(pod: Seen, what: str, container: Seen, ended: Seen, scheduler_since: str | None) -> Cause:
    """A container that ended: at once fatal if its program cannot even start."""
    reason, code, times = ended.get("reason", "Error"), ended.get("exitCode"), container.get("restartCount", 0)
    if reason in ("StartError", "ContainerCannotRun"):
        return Cause(f"{what}: its program cannot be started: {ended.get('message', reason)}", True)
    fatal = times >= CRASHES
    if component(pod) == "worker":
        # Without a scheduler it ends every 30 s, and again once it is there, until Kubernetes' pause is over.
        fatal = fatal and scheduler_since is not None and str(ended.get("startedAt")) > scheduler_since
    text = f"{what}: ended with exit code {code} ({reason}), {times} restarts"
    if reason == "OOMKilled":
        text = f"{what}: killed, it needs more memory than its limit{memory_limit(pod, container)}, {times} restarts"
    return Cause(text, fatal, name_of(pod))


def _ready_since(pod: Seen) -> str | None:
    ready = condition(pod, "Ready")
    return None if ready is None else str(ready.get("lastTransitionTime"))
