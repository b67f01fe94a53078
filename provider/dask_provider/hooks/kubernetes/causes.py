"""Why a cluster is not ready and how a job ended, told from the objects of Kubernetes. Pure.

All objects are the API server's JSON. Events are core/v1 Events, in any order, also of other objects.

What is fatal: only what waiting cannot cure - an image, Secret or service account that does not exist, a program that
keeps ending, a quota or policy that can never be met. A pod that no node takes is not: a node autoscaler may bring one,
another cluster may end. It is named at once all the same, and again at the time-out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask_provider.clusters.kubernetes_fields import parse_resources
from dask_provider.errors import InvalidInput
from dask_provider.outcomes import Outcome, worse

Object = Mapping[str, Any]

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
#: what older kubelets say in place of the reason
_BARE = re.compile(r'Back-off pulling image "[^"]*"')
#: what a pod's condition DisruptionTarget says
_DISRUPTIONS = {
    "PreemptionByScheduler": "preempted by a pod of higher priority",
    "DeletionByTaintManager": "its node was lost or is being taken away",
    "EvictionByEvictionAPI": "evicted, its node is being drained",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "ended by its node, which lacks resources or is shutting down",
}


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


@dataclass(frozen=True)
class JobEnd:
    """The place's verdict on a job.

    :param state: one of :data:`dask_provider.outcomes.STATES`.
    :param exit_code: of the container.
    :param tells: the place knows the reason better than the runtime could (OOMKilled, Evicted, ...).
    """

    state: str
    reason: str
    exit_code: int | None = None
    tells: bool = False


# --- not running yet ---


def not_ready(
    cluster: Object | None,
    deployments: Sequence[Object],
    pods: Sequence[Object],
    events: Sequence[Object],
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
    ordered = sorted(pods, key=lambda pod: _component(pod) != "scheduler")
    since = next((_ready_since(pod) for pod in ordered if _component(pod) == "scheduler"), None)
    found = [cause for pod in ordered if (cause := _of_pod(pod, events, since))]
    found += [cause for deployment in deployments if (cause := _of_deployment(deployment))]
    return _worst(found)


def not_running(job: Object, pod: Object | None, events: Sequence[Object]) -> Cause | None:
    """Why a job (or the lease) has no running pod, or ``None``."""
    if pod is not None:
        return _of_pod(pod, events)
    told = [_refused(f"Job {_name(job)}", event.get("message", "")) for event in _events(job, events, "FailedCreate")]
    return _worst(told)


def _worst(found: Iterable[Cause]) -> Cause | None:
    ordered = sorted(found, key=lambda cause: not cause.fatal)
    return ordered[0] if ordered else None


def _of_operator(cluster: Object, deployments: Sequence[Object], age: float) -> Cause | None:
    phase = (cluster.get("status") or {}).get("phase")
    if phase == "Error":
        return Cause(f"the Dask operator refuses the DaskCluster {_name(cluster)}; its log says why", True)
    if deployments or age < OPERATOR_SILENT:
        return None
    if phase is None:
        # Not fatal: one that is restarted finds the cluster by itself.
        text = f"the Dask operator has not noticed the cluster for {age:.0f} s: is it running, and for this namespace?"
        return Cause(text, False)
    return Cause(f"the Dask operator has made nothing of the cluster for {age:.0f} s; its log says why", False)


def _of_deployment(deployment: Object) -> Cause | None:
    """Pods that Kubernetes refuses to create: quota, service account, policies."""
    for condition in _conditions(deployment):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return _refused(_component(deployment) or _name(deployment), condition.get("message", ""))
    return None


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


def _of_pod(pod: Object, events: Sequence[Object], scheduler_since: str | None = None) -> Cause | None:
    """Why a pod does not run (any more).

    :param scheduler_since: when the scheduler became ready; a worker that had started before may end for want of it.
    """
    status, what = pod.get("status") or {}, _component(pod) or f"pod {_name(pod)}"
    if status.get("reason") == "Evicted":  # its successor may fare better
        return Cause(f"{what}: evicted: {status.get('message', 'its node lacks resources')}", False)
    if "deletionTimestamp" in pod["metadata"] or status.get("phase") == "Succeeded":
        return None
    for condition in _conditions(pod):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _unscheduled(pod, what, condition.get("message", condition.get("reason", "")), events)
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return _worst(cause for each in statuses if (cause := _of_container(pod, what, each, events, scheduler_since)))


def _unscheduled(pod: Object, what: str, message: str, events: Sequence[Object]) -> Cause:
    told = [event.get("message", "") for event in _events(pod, events, "NotTriggerScaleUp")]
    text = f"{what}: no node takes it: {'; '.join([message, *told[-1:]])}"
    # A claim that nobody has written is none that becomes bound.
    return Cause(text, bool(re.search(r"persistentvolumeclaim \S+ not found", message)))


def _of_container(
    pod: Object, what: str, container: Object, events: Sequence[Object], scheduler_since: str | None
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
        told = [event.get("message", "") for event in _events(pod, events, "FailedMount", "FailedAttachVolume")]
        if told and "failed to sync" not in told[-1]:  # the kubelet has not looked yet
            return Cause(f"{what}: a volume cannot be mounted: {told[-1]}", _lasts(told[-1]))
    return None


def _unpulled(pod: Object, what: str, image: str, reason: str, message: str, events: Sequence[Object]) -> Cause:
    if bare := bool(_BARE.fullmatch(message)):
        told = [event.get("message", "") for event in _events(pod, events, "Failed")]
        told = [text for text in told if "Failed to pull" in text]
        bare, message = not told, told[-1] if told else message
    fatal = not bare and not _PASSING.search(message)
    return Cause(f"{what}: the image {image} cannot be pulled ({reason}): {message}", fatal)


def _crashed(pod: Object, what: str, container: Object, ended: Object, scheduler_since: str | None) -> Cause:
    """A container that ended: at once fatal if its program cannot even start."""
    reason, code, times = ended.get("reason", "Error"), ended.get("exitCode"), container.get("restartCount", 0)
    if reason in ("StartError", "ContainerCannotRun"):
        return Cause(f"{what}: its program cannot be started: {ended.get('message', reason)}", True)
    fatal = times >= CRASHES
    if _component(pod) == "worker":
        # Without a scheduler it ends every 30 s, and again once it is there, until Kubernetes' pause is over.
        fatal = fatal and scheduler_since is not None and str(ended.get("startedAt")) > scheduler_since
    text = f"{what}: ended with exit code {code} ({reason}), {times} restarts"
    if reason == "OOMKilled":
        text = f"{what}: killed, it needs more memory than its limit{_limit(pod, container)}, {times} restarts"
    return Cause(text, fatal, _name(pod))


def _ready_since(pod: Object) -> str | None:
    ready = _condition(pod, "Ready")
    return None if ready is None else str(ready.get("lastTransitionTime"))


# --- how a job ended ---


def job_end(job: Object | None, pod: Object | None, runtime: Outcome | None = None) -> JobEnd | None:
    """How a job ended as Kubernetes sees it; ``None`` while it has not.

    :param job: the Job, ``None`` when it is gone.
    :param pod: its pod as it was last seen, also if it is gone now.
    :param runtime: what the runtime reported, if it did: an exit status that it explains is left to it.
    """
    ended, failed = _terminated(pod), _condition(job, "Failed") or _condition(job, "FailureTarget")
    gone = job is None or "deletionTimestamp" in job["metadata"]
    code = None if ended is None else ended.get("exitCode")
    asked = "" if job is None else _asked_to_end(job)
    if _condition(job, "Complete") or (code == 0 and not (asked or failed or _taken_away(pod))):
        return JobEnd("succeeded", "", 0)
    if not (ended or failed or gone):
        return None
    if asked:
        return JobEnd("cancelled", asked, code)
    if pod is not None and (taken := _disrupted(pod)):
        return JobEnd("lost", taken, code, tells=True)
    if failed and failed.get("reason") == "DeadlineExceeded":
        return _too_late(pod, ended, failed)
    if pod is not None and ended is not None and "deletionTimestamp" not in pod["metadata"]:
        return _exited(pod, ended, runtime)
    if gone:
        return JobEnd("lost", "the Job was deleted, with its cluster or by somebody", code, tells=True)
    if failed:
        return JobEnd("lost", "its pod was deleted by somebody", code, tells=True)
    return None  # its pod is being deleted: why, the Job will tell


def _taken_away(pod: Object | None) -> bool:
    """Whether its container may have ended because it was told to: an exit code of 0 then says nothing."""
    if pod is None:
        return False
    succeeded = (pod.get("status") or {}).get("phase") == "Succeeded"
    return not succeeded or "deletionTimestamp" in pod["metadata"] or bool(_disrupted(pod))


def _asked_to_end(job: Object) -> str:
    """Why, if it was by us."""
    notes = job["metadata"].get("annotations") or {}
    if "dask-provider/superseded" in notes:
        return "ended by a later try"
    return "cancelled" if "dask-provider/ending" in notes else ""


def _too_late(pod: Object | None, ended: Object | None, failed: Object) -> JobEnd:
    """The Job's deadline, which also ends a pod that never started."""
    if pod is not None and ended is None:
        cause = _of_pod({**pod, "metadata": {"name": _name(pod)}}, ())
        if cause is not None and cause.fatal:
            return JobEnd("failed", cause.text, tells=True)
    reason = f"DeadlineExceeded: {failed.get('message', 'the Job ran longer than its activeDeadlineSeconds')}"
    return JobEnd("failed", reason, None if ended is None else ended.get("exitCode"), tells=True)


def _exited(pod: Object, ended: Object, runtime: Outcome | None) -> JobEnd:
    code, reason = ended.get("exitCode"), ended.get("reason", "Error")
    if reason == "OOMKilled":
        limit = next((_limit(pod, each) for each in pod["status"]["containerStatuses"]), "")
        text = f"OOMKilled: it needs more memory than its limit{limit}; set job_resources"
        return JobEnd("failed", text, code, tells=True)
    if reason in ("StartError", "ContainerCannotRun"):
        return JobEnd("failed", f"its program cannot be started: {ended.get('message', reason)}", code, tells=True)
    if runtime is not None and runtime.state != "succeeded":
        return JobEnd(runtime.state, runtime.reason, code)
    note = " (killed from outside, or for want of memory)" if code == 137 else ""
    return JobEnd("failed", f"its container ended with exit code {code}{note}", code)


def _disrupted(pod: Object) -> str | None:
    """Who took the pod away, other than a user."""
    status = pod.get("status") or {}
    reason, said = status.get("reason"), status.get("message") or ""
    if reason == "Evicted":
        return f"Evicted: {said or 'its node lacks resources'}"
    if target := _condition(pod, "DisruptionTarget"):
        why, said = target.get("reason", "DisruptionTarget"), said or target.get("message", "")
        return f"{why}: {_DISRUPTIONS.get(why, 'its pod was taken away')}{f' ({said})' if said else ''}"
    if reason in ("NodeLost", "Shutdown", "NodeShutdown", "Terminated", "Preempting"):
        return f"{reason}: {said or 'its node went away'}"
    return None


def outcome(end: JobEnd, runtime: Outcome | None) -> Outcome:
    """The place's verdict and the runtime's as one: the worse one counts and both are shown."""
    if runtime is None:
        if end.state == "succeeded":
            return Outcome("unknown", reason="the container ended well, but the job's runtime reported no outcome")
        return Outcome(end.state, reason=end.reason, exit_code=end.exit_code)
    if end.tells and end.state == runtime.state and end.reason != runtime.reason:
        told = f"{end.reason}; the job itself: {runtime.reason}" if runtime.reason else end.reason
        return Outcome(**{**runtime.__dict__, "reason": told})
    return worse(runtime, end.state, end.reason)


# --- reading objects ---


def _name(made: Object) -> str:
    return str(made["metadata"]["name"])


def _component(made: Object) -> str | None:
    """``scheduler`` or ``worker``, as the operator labels them."""
    found = (made["metadata"].get("labels") or {}).get("dask.org/component")
    return None if found is None else str(found)


def _conditions(made: Object) -> Sequence[Object]:
    return (made.get("status") or {}).get("conditions") or []


def _condition(made: Object | None, kind: str) -> Object | None:
    """A condition that is true."""
    found = _conditions(made) if made is not None else []
    return next((each for each in found if each["type"] == kind and each["status"] == "True"), None)


def _events(made: Object, events: Sequence[Object], *reasons: str) -> list[Object]:
    """Of this very object, oldest first."""
    meta = made["metadata"]
    ours = [
        event
        for event in events
        if event.get("reason") in reasons
        and event["involvedObject"].get("name") == meta["name"]
        and event["involvedObject"].get("uid") in (None, meta.get("uid"))
    ]
    return sorted(ours, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))


def _terminated(pod: Object | None) -> Object | None:
    """How the job's container ended, once its pod has."""
    status = (pod or {}).get("status") or {}
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    for container in status.get("containerStatuses") or []:
        if found := (container.get("state") or {}).get("terminated"):
            return dict(found)
    return None


def _limit(pod: Object, status: Object) -> str:
    """Its memory limit in words."""
    for container in (pod.get("spec") or {}).get("containers") or []:
        if container.get("name") == status.get("name"):
            memory = ((container.get("resources") or {}).get("limits") or {}).get("memory")
            return f" of {memory}" if memory else ""
    return ""
