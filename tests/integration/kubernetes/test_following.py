"""Who follows a job bears an API server that is away, but not for ever one that refuses him."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from typing import Any

import pytest
from dask_provider.clusters.kubernetes_job import KubernetesJob
from dask_provider.hooks.base import News
from dask_provider.hooks.kubernetes import client, feed, following, plain_manifests
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.connections import load_access
from dask_provider.hooks.kubernetes.errors import ApiError
from dask_provider.hooks.kubernetes.rights import PLAIN, role_rules
from dask_provider.owner import Owner

from tests.integration.place import FIRST, Followed
from tests.servers.kubernetes import KubernetesServer

#: a line of the API server's metrics
_COUNT = re.compile(
    r'apiserver_(longrunning_requests|request_total)\{[^}]*resource="(jobs|pods|events)",'
    r'scope="namespace",subresource="",verb="(WATCH|LIST)"[^}]*\} (\d+)'
)
#: seconds; longer than one call of the client has patience
OUTAGE = 40.0


@pytest.fixture
def access(kubernetes_api: KubernetesServer, api_namespace: str, monkeypatch: pytest.MonkeyPatch) -> Access:
    kubeconfig = kubernetes_api.service_account(api_namespace, "airflow", role_rules(PLAIN))
    extra = {"kube_config_path": str(kubeconfig)}
    monkeypatch.setenv("AIRFLOW_CONN_K8S", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    return load_access("k8s")


class Following:
    """A plain job that is followed; no node takes its pod.

    :param eager: as a task does it; otherwise as a triggerer.
    """

    def __init__(
        self, server: KubernetesServer, access: Access, namespace: str, task_id: str = "work", *, eager: bool = True
    ) -> None:
        self.server, self.access, self.namespace, self.eager = server, access, namespace, eager
        self.told = Followed()
        self.waits = asyncio.Event()
        owner = Owner("tests", "flights", "run-1", task_id)
        job = plain_manifests.job(KubernetesJob(image="localhost/etl:1"), owner, FIRST, namespace=namespace)
        self.job_id = job["metadata"]["name"]
        server.apply({**job, "spec": {**job["spec"], "suspend": False}})

    async def follow(self) -> None:
        news: Any = following.follow(self.access, self.namespace, self.job_id, 0, eager=self.eager)
        async with contextlib.aclosing(news):
            async for each in news:
                self._tell(each)

    def _tell(self, news: News) -> None:
        self.told.add(news)
        if any("no node takes it" in message.get("text", "") for message in self.told.messages):
            self.waits.set()

    def end_pod(self) -> None:
        """As its node would, if there were one."""
        (pod,) = self.server.get("pods", "-n", self.namespace, "-l", f"job-name={self.job_id}")["items"]
        state = {"terminated": {"exitCode": 0, "reason": "Completed"}}
        ended = {"name": "job", "ready": False, "restartCount": 0, "image": "x", "imageID": "", "state": state}
        body = json.dumps({"status": {"phase": "Succeeded", "containerStatuses": [ended]}})
        names = ["pod", pod["metadata"]["name"], "-n", self.namespace]
        self.server.kubectl("patch", *names, "--subresource=status", "-p", body)


def asked(server: KubernetesServer) -> Counter[str]:
    """What was asked of namespaces since the server's start: ``request_total LIST pods``; and what is being answered:
    ``longrunning_requests WATCH pods``."""
    found: Counter[str] = Counter()
    for line in server.kubectl("get", "--raw", "/metrics").splitlines():
        if match := _COUNT.match(line):
            found[f"{match[1]} {match[3]} {match[2]}"] += int(match[4])
    return found


async def test_many_deferred_waits_cost_what_one_does(
    kubernetes_api: KubernetesServer, access: Access, api_namespace: str
) -> None:
    jobs = [Following(kubernetes_api, access, api_namespace, f"work-{n}", eager=False) for n in range(20)]
    tasks = [asyncio.create_task(job.follow()) for job in jobs]
    for job in jobs:
        await asyncio.wait_for(job.waits.wait(), 30)
    before = asked(kubernetes_api)
    assert [before[f"longrunning_requests WATCH {what}"] for what in ("jobs", "pods", "events")] == [1, 1, 0]
    await asyncio.sleep(15)
    lists = asked(kubernetes_api) - before
    assert not lists.keys() & {"request_total LIST jobs", "request_total LIST pods"}
    assert 1 <= lists["request_total LIST events"] <= 5, "one answer for all"
    jobs[0].end_pod()
    await asyncio.wait_for(tasks[0], 10)
    assert jobs[0].told.outcome.succeeded, jobs[0].told.outcome
    assert not any(task.done() for task in tasks[1:])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_right_that_was_taken_away_for_good(
    kubernetes_api: KubernetesServer, access: Access, api_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (feed, following):
        monkeypatch.setattr(module, "GRACE", 4.0)
    monkeypatch.setattr(client, "NEW", 0.5)
    job = Following(kubernetes_api, access, api_namespace)
    task = asyncio.create_task(job.follow())
    await asyncio.wait_for(job.waits.wait(), 30)
    began = time.monotonic()
    kubernetes_api.kubectl("delete", "rolebinding", "airflow", "-n", api_namespace)
    with pytest.raises(ApiError, match=r"cannot list resource .* \(403 Forbidden\)"):
        await asyncio.wait_for(task, 60)
    assert time.monotonic() - began > 4, "it may have been a mistake of a server that has just started"
    assert job.told.outcome.state == "unknown"


async def test_a_right_to_watch_that_was_never_given(
    kubernetes_api: KubernetesServer, access: Access, api_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (feed, following):
        monkeypatch.setattr(module, "GRACE", 4.0)
    without = [
        (group, kind, [verb for verb in verbs if kind != "pods" or verb != "watch"]) for group, kind, verbs in PLAIN
    ]
    kubernetes_api.service_account(api_namespace, "airflow", role_rules(without))
    job = Following(kubernetes_api, access, api_namespace)
    with pytest.raises(ApiError, match=r"cannot watch resource .*pods.* \(403 Forbidden\)"):
        await asyncio.wait_for(job.follow(), 60)


# The last one here: controllers and scheduler take their time to come back, too.
@pytest.mark.whole
async def test_an_outage_longer_than_any_patience_is_borne(
    kubernetes_api: KubernetesServer, access: Access, api_namespace: str
) -> None:
    job = Following(kubernetes_api, access, api_namespace)
    task = asyncio.create_task(job.follow())
    await asyncio.wait_for(job.waits.wait(), 30)
    kubernetes_api.control("kill", "apiserver")
    try:
        await asyncio.wait({task}, timeout=OUTAGE)
        assert not task.done(), task
    finally:
        kubernetes_api.control("start", "apiserver")
        await asyncio.to_thread(kubernetes_api.wait_ready)
    job.end_pod()
    await asyncio.wait_for(task, 60)
    assert job.told.outcome.succeeded, job.told.outcome
