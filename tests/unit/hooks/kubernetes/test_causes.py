"""Why a cluster is not ready and how a job ended, from objects as the API server shows them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dask_provider.hooks.kubernetes.causes import JobEnd, job_end, not_ready, not_running, outcome
from dask_provider.outcomes import Outcome

READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-08-01T02:00:30Z"}


def pod(component: str | None = "scheduler", *, phase: str = "Pending", **status: Any) -> dict[str, Any]:
    labels = {"dask.org/component": component} if component else {}
    limits = {"limits": {"memory": "2Gi"}}
    meta = {"name": f"x-{component}-1", "uid": f"u-{component}", "labels": labels}
    return {
        "metadata": meta,
        "spec": {"containers": [{"name": "main", "resources": limits}]},
        "status": {"phase": phase, **status},
    }


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "main", "image": "ghcr.io/acme/etl:1", "state": state, **more}]}


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": "2026-08-01T02:00:00Z", **more}}


def crashing(times: int, last: dict[str, Any]) -> dict[str, Any]:
    return waiting("CrashLoopBackOff", "back-off 10s restarting", restartCount=times, lastState=last)


def unscheduled(message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}


def event(about: dict[str, Any], reason: str, message: str, at: str = "2026-08-01T02:00:00Z") -> dict[str, Any]:
    involved = {"name": about["metadata"]["name"], "uid": about["metadata"]["uid"]}
    return {"involvedObject": involved, "reason": reason, "message": message, "lastTimestamp": at}


NOT_FOUND = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "ghcr.io/acme/etl:1": failed to resolve '
    'reference "ghcr.io/acme/etl:1": ghcr.io/acme/etl:1: not found'
)
FEW_CPUS = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims."
LATER = {"startedAt": "2026-08-01T02:01:00Z"}


@pytest.mark.parametrize(
    ("status", "said", "fatal"),
    [
        (waiting("ErrImagePull", NOT_FOUND), "image ghcr.io/acme/etl:1 cannot be pulled .*: not found", True),
        (waiting("ImagePullBackOff", f'Back-off pulling image "x:1": ErrImagePull: {NOT_FOUND}'), "not found", True),
        (waiting("ImagePullBackOff", 'Back-off pulling image "ghcr.io/acme/etl:1"'), "Back-off", False),
        (waiting("ErrImagePull", "dial tcp: lookup ghcr.io: no such host"), "no such host", True),
        (waiting("ErrImagePull", "unexpected status code 503 Service Unavailable"), "503", False),
        (waiting("ErrImagePull", "net/http: TLS handshake timeout"), "timeout", False),
        (waiting("ErrImagePull", "pull QPS exceeded"), "QPS", False),
        (waiting("InvalidImageName", 'couldn\'t parse image name "Acme"'), "InvalidImageName", True),
        (waiting("ErrImageNeverPull", 'Container image "x:1" is not present with pull policy of Never'), "Never", True),
        (unscheduled(FEW_CPUS), "scheduler: no node takes it: 0/3 nodes are available: 3 Insufficient cpu", False),
        (unscheduled('persistentvolumeclaim "lake" not found'), "persistentvolumeclaim", True),
        (unscheduled("pod has unbound immediate PersistentVolumeClaims"), "unbound", False),
        (waiting("CreateContainerConfigError", 'secret "db" not found'), 'secret "db" not found', True),
        (waiting("CreateContainerConfigError", "failed to sync secret cache: timed out"), "sync", False),
        (
            waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
            "set run_as_user",
            True,
        ),
        (crashing(0, ended(1)), "exit code 1", False),
        (crashing(1, ended(1)), "exit code 1", True),
        (crashing(3, ended(0, "Completed")), "exit code 0", True),
        (crashing(1, ended(137, "OOMKilled")), "more memory than its limit of 2Gi", True),
        (
            waiting("RunContainerError") | {"containerStatuses": [{"name": "main", "state": ended(
                128, "StartError", message='exec: "dask": executable file not found in $PATH')}]},
            "executable file not found",
            True,
        ),
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, "low on resource", False),
    ],
)  # fmt: skip
def test_a_scheduler_that_does_not_run(status: dict[str, Any], said: str, fatal: bool) -> None:
    cause = not_ready(None, [], [pod(phase="Failed" if "reason" in status else "Pending", **status)], [], age=3)
    assert cause is not None
    assert (cause.fatal, cause.pod is not None) == (fatal, "exit code" in said or "memory than" in said)
    assert re.search(said, cause.text)


@pytest.mark.parametrize(
    "status",
    [
        waiting("ContainerCreating"),
        waiting("PodInitializing") | {"initContainerStatuses": [{"name": "i", "state": ended(0, "Completed")}]},
        {"containerStatuses": [{"name": "main", "state": {"running": {}}, "lastState": ended(1), "restartCount": 1}]},
    ],
)
def test_what_is_on_its_way_is_no_cause(status: dict[str, Any]) -> None:
    assert not_ready(None, [], [pod(**status)], [], age=3) is None


def test_a_worker_may_end_until_its_scheduler_is_there() -> None:
    ready = pod(phase="Running", conditions=[READY])
    before, after = crashing(4, ended(1)), crashing(1, ended(1, **LATER))
    for scheduler, status, fatal in (
        (pod(**waiting("ContainerCreating")), before, False),
        (ready, before, False),
        (ready, crashing(0, ended(1, **LATER)), False),
        (ready, after, True),
    ):
        cause = not_ready(None, [], [pod("worker", **status), scheduler], [], age=60)
        assert cause is not None
        assert (cause.fatal, cause.pod) == (fatal, "x-worker-1")


def test_events_tell_more() -> None:
    creating, silent = (
        pod(**waiting("ContainerCreating")),
        pod(**waiting("ImagePullBackOff", 'Back-off pulling image "x"')),
    )
    other = {"metadata": {"name": creating["metadata"]["name"], "uid": "an older one of the name"}}
    mount = 'MountVolume.SetUp failed for volume "v" : '
    for about, events, said in (
        (creating, [event(creating, "FailedMount", f'{mount}configmap "c" not found')], ("configmap", True)),
        (
            creating,
            [event(creating, "FailedMount", f"{mount}hostPath type check failed: /x is not a dir")],
            ("/x", True),
        ),
        (
            creating,
            [event(creating, "FailedMount", f'{mount}configmap "kube-root-ca.crt" not found')],
            ("root-ca", False),
        ),
        (creating, [event(creating, "FailedMount", f"{mount}mount failed: exit status 32, timed out")], ("32", False)),
        (creating, [event(other, "FailedMount", f'{mount}secret "s" not found')], None),
        (silent, [event(silent, "Failed", f'Failed to pull image "x": {NOT_FOUND}')], ("not found", True)),
        (
            pod(**unscheduled(FEW_CPUS)),
            [event(creating, "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")],
            ("3 Insufficient cpu.*max node group size", False),
        ),
    ):
        cause = not_ready(None, [], [about], events, age=3)
        assert (cause is None) == (said is None)
        if cause is not None and said is not None:
            assert cause.fatal is said[1]
            assert re.search(said[0], cause.text)


REFUSED = 'pods "x" is forbidden: '
QUOTA = (
    REFUSED + "exceeded quota: team, requested: limits.memory=2Gi,requests.cpu=1, used: requests.cpu={}, limited: {}"
)


@pytest.mark.parametrize(
    ("message", "said", "fatal"),
    [
        (QUOTA.format(4, "limits.memory=8Gi,requests.cpu=4"), "quota team: requested .*used requests.cpu=4", False),
        (QUOTA.format(0, "limits.memory=8Gi,requests.cpu=500m"), "limit .*requests.cpu=500m", True),
        (QUOTA.format(0, "limits.memory=1Gi,requests.cpu=4"), "limits.memory=1Gi", True),
        (REFUSED + "failed quota: team: must specify limits.cpu for: main", "must specify", True),
        (REFUSED + 'error looking up service account a/etl: serviceaccount "etl" not found', "does not exist", True),
        (REFUSED + 'error looking up service account a/default: serviceaccount "default" not found', "exist", False),
        (REFUSED + 'violates PodSecurity "restricted:latest": runAsNonRoot != true', "set run_as_user", True),
        (REFUSED + "maximum cpu usage per Container is 1, but limit is 2", "maximum cpu", True),
        ("Internal error occurred: failed calling webhook: context deadline exceeded", "webhook", False),
    ],
)
def test_pods_that_kubernetes_refuses(message: str, said: str, fatal: bool) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    deployment = {**pod(), "status": {"conditions": [condition]}}
    job = {"metadata": {"name": "job-1", "uid": "j"}}
    events = [event(job, "FailedCreate", f"Error creating: {message}")]
    for cause in (not_ready(None, [deployment], [], [], age=3), not_running(job, None, events)):
        assert cause is not None
        assert cause.fatal is fatal
        assert re.search(said, cause.text)
    assert not_running(job, None, []) is None


def test_the_operator_and_what_counts_most() -> None:
    cluster: dict[str, Any] = {"metadata": {"name": "x"}}
    assert not_ready(cluster, [], [], [], age=5) is None
    for status, said, fatal in (
        ({}, "has not noticed the cluster for 20 s", False),
        ({"phase": "Created"}, "has made nothing", False),
        ({"phase": "Error"}, "refuses", True),
    ):
        cause = not_ready({**cluster, "status": status}, [], [], [], age=20)
        assert cause is not None
        assert (said in cause.text, cause.fatal) == (True, fatal)
    assert not_ready(cluster, [pod()], [], [], age=20) is None
    pods = [pod("worker", **waiting("InvalidImageName")), pod("scheduler", **unscheduled(FEW_CPUS))]
    cause = not_ready(None, [], pods, [], age=3)
    assert cause is not None
    assert cause.text.startswith("worker"), "what is fatal comes first"
    cause = not_ready(None, [], [pod("worker", **unscheduled("a")), pods[1]], [], age=3)
    assert cause is not None
    assert cause.text.startswith("scheduler")


# --- how a job ended ---


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
SAID = Outcome("failed", reason="ValueError: no rows", exit_code=3)


@pytest.mark.parametrize(
    ("job", "pod_", "runtime", "state", "said"),
    [
        (the_job(), its_pod(), None, None, ""),
        (the_job(), None, None, None, ""),
        (the_job(), its_pod(ended(0)), None, "succeeded", ""),
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
