"""How a job ended, from objects as the API server shows them."""

from __future__ import annotations

from typing import Any

import pytest
from dask_provider.hooks.kubernetes.endings import JobEnd, job_end, outcome
from dask_provider.outcomes import Outcome

from tests.unit.hooks.kubernetes.seen import ended, pod, waiting


def the_job(*conditions: tuple[str, str], deleting: bool = False, **notes: str) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": "job-1", "uid": "j"}
    meta["annotations"] = {f"dask-provider/{name}": text for name, text in notes.items()}
    if deleting:
        meta["deletionTimestamp"] = "2026-08-01T02:00:00Z"
    said = [{"type": kind, "status": "True", "reason": why, "message": "why"} for kind, why in conditions]
    return {"metadata": meta, "status": {"conditions": said}}


def its_pod(state: dict[str, Any] | None = None, *, deleting: bool = False, **status: Any) -> dict[str, Any]:
    phase = "Running" if state is None else "Failed" if state["terminated"]["exitCode"] else "Succeeded"
    made = pod(None, phase=phase, **status)
    made["status"]["containerStatuses"] = [{"name": "main", "state": state or {"running": {}}}]
    if deleting:
        made["metadata"]["deletionTimestamp"] = "2026-08-01T02:00:00Z"
    return made


def target(why: str) -> list[dict[str, str]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": why, "message": "told"}]


FAILED = ("Failed", "BackoffLimitExceeded")
TOO_LATE = ("FailureTarget", "DeadlineExceeded")
ENDING = {**its_pod(ended(0))["status"], "phase": "Running"}
SAID = Outcome("failed", reason="ValueError: no rows", exit_code=3)


@pytest.mark.parametrize(
    ("job", "pod_", "runtime", "state", "said"),
    [
        (the_job(), its_pod(), None, None, ""),
        (the_job(), None, None, None, ""),
        (the_job(), its_pod(ended(0)), None, "succeeded", ""),
        # Its node says a second later that the pod is over: who has heard the job itself need not wait for that.
        (the_job(), {**its_pod(ended(0)), "status": ENDING}, None, None, ""),
        (the_job(), {**its_pod(ended(0)), "status": ENDING}, SAID, None, ""),
        (the_job(), {**its_pod(ended(0)), "status": ENDING}, Outcome("succeeded"), "succeeded", ""),
        (the_job(("Complete", "")), None, None, "succeeded", ""),
        (the_job(), its_pod(ended(3)), None, "failed", "exit code 3"),
        (the_job(FAILED), its_pod(ended(3)), SAID, "failed", "no rows"),
        (the_job(FAILED), its_pod(ended(1)), Outcome("succeeded"), "failed", "exit code 1"),
        (the_job(FAILED), its_pod(ended(1)), Outcome("lost", reason="no scheduler"), "lost", "no scheduler"),
        (the_job(), its_pod(ended(137, "OOMKilled")), SAID, "failed", "limit of 2Gi; set job_resources"),
        (the_job(), its_pod(ended(128, "StartError", message="no python")), None, "failed", "no python"),
        (the_job(), its_pod(ended(143), reason="Evicted", message="low on memory"), None, "lost", "Evicted: low on"),
        (the_job(), its_pod(ended(143), conditions=target("PreemptionByScheduler")), None, "lost", "higher priority"),
        (the_job(FAILED), its_pod(conditions=target("DeletionByTaintManager"), deleting=True), None, "lost", "node"),
        (the_job(TOO_LATE), its_pod(deleting=True), None, "failed", "DeadlineExceeded: why"),
        (the_job(TOO_LATE), pod(None, **waiting("InvalidImageName", "bad")), None, "failed", "cannot be pulled"),
        (the_job(), its_pod(deleting=True), None, None, ""),
        (the_job(), its_pod(ended(143), deleting=True), None, None, ""),
        (the_job(FAILED), its_pod(ended(143), deleting=True), None, "lost", "pod was deleted by somebody"),
        (the_job(FAILED), None, None, "lost", "pod was deleted by somebody"),
        (the_job(deleting=True), its_pod(), None, "lost", "Job was deleted"),
        (None, its_pod(ended(143), deleting=True), None, "lost", "Job was deleted"),
        (None, its_pod(ended(3)), None, "failed", "exit code 3"),
        (None, None, None, "lost", "Job was deleted"),
        (the_job(TOO_LATE, ending="true"), its_pod(ended(143), deleting=True), None, "cancelled", "cancelled"),
        (the_job(ending="true"), its_pod(), None, None, ""),
        # It may have ended well because it was told to end.
        (the_job(TOO_LATE), its_pod(ended(0), deleting=True), None, "failed", "DeadlineExceeded"),
        (the_job(ending="true"), its_pod(ended(0), deleting=True), None, "cancelled", "cancelled"),
        (the_job(superseded="true"), its_pod(ended(0)), None, "cancelled", "by a later try"),
        (the_job(), its_pod(ended(0), reason="Evicted", message="low on memory"), None, "lost", "Evicted"),
        (the_job(), its_pod(ended(0), deleting=True), None, None, ""),
        (the_job(TOO_LATE, superseded="true"), None, None, "cancelled", "by a later try"),
    ],
)
def test_how_a_job_ended(job: Any, pod_: Any, runtime: Outcome | None, state: str | None, said: str) -> None:
    end = job_end(job, pod_, runtime)
    assert (end and end.state) == state
    assert said in (end.reason if end else "")


def test_place_and_runtime_as_one() -> None:
    oom = JobEnd("failed", "OOMKilled: limit", 137, tells=True)
    lost = JobEnd("lost", "its pod was deleted by somebody", 143, tells=True)
    well = JobEnd("succeeded", "", 0)
    cancelled = Outcome("cancelled", reason="cancelled (SIGTERM)")
    assert outcome(well, Outcome("succeeded")).succeeded
    assert outcome(well, None).state == "unknown", "unknown is never success"
    assert outcome(oom, None) == Outcome("failed", reason="OOMKilled: limit", exit_code=137)
    assert outcome(oom, SAID).reason == "OOMKilled: limit; the job itself: ValueError: no rows"
    assert outcome(oom, SAID).exit_code == 3
    assert outcome(JobEnd("failed", "ValueError: no rows", 3), SAID) == SAID
    assert outcome(JobEnd("cancelled", "cancelled", 143), cancelled) == cancelled
    both = outcome(lost, cancelled)
    assert (both.state, "deleted by somebody" in both.reason, "SIGTERM" in both.reason) == ("lost", True, True)
    assert outcome(well, cancelled) == cancelled
