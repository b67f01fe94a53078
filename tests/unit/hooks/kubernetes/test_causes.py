"""Why a cluster is not ready, or not gone, or a job does not run, from objects as the API server shows them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dask_provider.hooks.kubernetes.causes import not_gone, not_ready, not_running

from tests.unit.hooks.kubernetes.seen import ended, pod, waiting

READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-08-01T02:00:30Z"}


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


@pytest.mark.parametrize(
    ("finalizers", "said"),
    [
        ([], ""),
        (["foregroundDeletion"], ""),
        (["kopf.zalando.org/KopfFinalizerMarker"], "DaskCluster x waits for the Dask operator, which does not answer"),
        (
            ["foregroundDeletion", "example.com/held"],
            "DaskCluster x is held by the finalizer example.com/held, which nobody takes off",
        ),
    ],
)
def test_who_keeps_what_is_left(finalizers: list[str], said: str) -> None:
    assert not_gone({"DaskCluster x": {"metadata": {"finalizers": finalizers}}, "Pod y": {"metadata": {}}}) == said
