"""How a job ended, told from its Job, its pod and what its runtime reported. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dask_provider.hooks.kubernetes.causes import pod_cause
from dask_provider.hooks.kubernetes.objects import Seen, condition, memory_limit, name_of, note
from dask_provider.outcomes import Outcome, worse

#: what a pod's condition DisruptionTarget says
_DISRUPTIONS = {
    "PreemptionByScheduler": "preempted by a pod of higher priority",
    "DeletionByTaintManager": "its node was lost or is being taken away",
    "EvictionByEvictionAPI": "evicted, its node is being drained",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "ended by its node, which lacks resources or is shutting down",
}


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


def job_end(job: Seen | None, pod: Seen | None, runtime: Outcome | None = None) -> JobEnd | None:
    """How a job ended as Kubernetes sees it; ``None`` while it has not.

    :param job: the Job, ``None`` when it is gone.
    :param pod: its pod as it was last seen, also if it is gone now.
    :param runtime: what the runtime reported, if it did: an exit status that it explains is left to it.
    """
    explained = runtime is not None and runtime.succeeded
    ended, failed = _terminated(pod, explained), condition(job, "Failed") or condition(job, "FailureTarget")
    gone = job is None or "deletionTimestamp" in job["metadata"]
    code = None if ended is None else ended.get("exitCode")
    asked = "" if job is None else _asked_to_end(job)
    if condition(job, "Complete") or (code == 0 and not (asked or failed or _taken_away(pod, explained))):
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


def _taken_away(pod: Seen | None, explained: bool) -> bool:
    """Whether its container may have ended because it was told to: an exit code of 0 then says nothing.

    :param explained: the runtime has said that its program succeeded. Others are believed once the pod's phase says
        it too, a second later.
    """
    if pod is None:
        return False
    succeeded = explained or (pod.get("status") or {}).get("phase") == "Succeeded"
    return not succeeded or "deletionTimestamp" in pod["metadata"] or bool(_disrupted(pod))


def _asked_to_end(job: Seen) -> str:
    """Why, if it was by us."""
    if note(job, "superseded") is not None:
        return "ended by a later try"
    return "" if note(job, "ending") is None else "cancelled"


def _too_late(pod: Seen | None, ended: Seen | None, failed: Seen) -> JobEnd:
    """The Job's deadline, which also ends a pod that never started."""
    if pod is not None and ended is None:
        cause = pod_cause({**pod, "metadata": {"name": name_of(pod)}}, ())
        if cause is not None and cause.fatal:
            return JobEnd("failed", cause.text, tells=True)
    reason = f"DeadlineExceeded: {failed.get('message', 'the Job ran longer than its activeDeadlineSeconds')}"
    return JobEnd("failed", reason, None if ended is None else ended.get("exitCode"), tells=True)


def _exited(pod: Seen, ended: Seen, runtime: Outcome | None) -> JobEnd:
    code, reason = ended.get("exitCode"), ended.get("reason", "Error")
    if reason == "OOMKilled":
        limit = next((memory_limit(pod, each) for each in pod["status"]["containerStatuses"]), "")
        text = f"OOMKilled: it needs more memory than its limit{limit}; set job_resources"
        return JobEnd("failed", text, code, tells=True)
    if reason in ("StartError", "ContainerCannotRun"):
        return JobEnd("failed", f"its program cannot be started: {ended.get('message', reason)}", code, tells=True)
    if runtime is not None and runtime.state != "succeeded":
        return JobEnd(runtime.state, runtime.reason, code)
    note = " (killed from outside, or for want of memory)" if code == 137 else ""
    return JobEnd("failed", f"its container ended with exit code {code}{note}", code)


def _disrupted(pod: Seen) -> str | None:
    """Who took the pod away, other than a user."""
    status = pod.get("status") or {}
    reason, said = status.get("reason"), status.get("message") or ""
    if reason == "Evicted":
        return f"Evicted: {said or 'its node lacks resources'}"
    if target := condition(pod, "DisruptionTarget"):
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


def _terminated(pod: Seen | None, explained: bool) -> Seen | None:
    """How the job's container ended, once its pod has, or once it ended as the runtime has said."""
    status = (pod or {}).get("status") or {}
    over = status.get("phase") in ("Succeeded", "Failed")
    for container in status.get("containerStatuses") or []:
        found = (container.get("state") or {}).get("terminated")
        if found and (over or (explained and found.get("exitCode") == 0)):
            return dict(found)
    return None
