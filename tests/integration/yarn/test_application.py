"""A Dask cluster as one application on a real YARN: life, scaling, lease, and why it cannot start."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import pytest
from dask_provider.runtime import yarn as dask_on_yarn
from dask_provider.runtime.dask_side import NotReady
from dask_provider.runtime.yarn_rest import OVER

from tests.integration.yarn.conftest import Starter, client_of
from tests.servers.yarn import YarnServer

pytestmark = pytest.mark.whole


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "never"
        time.sleep(0.1)


def until_over(node: YarnServer, identity: str, seconds: float = 60) -> dict[str, str]:
    until(lambda: node.application(identity)["state"] in OVER, seconds)
    return node.application(identity)


@pytest.fixture(scope="module")
def application(starts: Starter) -> dask_on_yarn.Application:
    return starts(
        workers=(2, 2), tags=("instance:Tests", "run:1"), env={"COLOUR": 'a "quoted" $HOME'}, max_lifetime=400
    )


@pytest.fixture(scope="module")
def ready(application: dask_on_yarn.Application) -> dask_on_yarn.Ready:
    return dask_on_yarn.wait_ready(application, 2, 60)


def test_a_cluster_computes_encrypted_and_is_found_by_its_tags(
    node: YarnServer, application: dask_on_yarn.Application, ready: dask_on_yarn.Ready
) -> None:
    began = time.monotonic()
    assert ready.scheduler.startswith("tls://127.0.0.1:")

    def colour() -> str:
        import os

        return os.environ["COLOUR"]

    with client_of(ready) as client:
        assert client.submit(sum, client.map(lambda x: x * x, range(100))).result() == 328350
        assert set(client.run(colour).values()) == {'a "quoted" $HOME'}
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        assert {str(worker["name"]) for worker in workers} == {"dask.worker_0", "dask.worker_1"}
        assert {worker["memory_limit"] for worker in workers} == {412 * 2**20}
        scratch = {worker["local_directory"] for worker in workers}
        assert all(str(node.state / "nm-local") in folder for folder in scratch)
    assert dask_on_yarn.find(("RUN:1", "instance:tests")) == [application.identity]
    assert dask_on_yarn.find(("run:1", "instance:others")) == []
    timeouts = node.application(application.identity)["timeouts"]["timeout"]
    lifetime = next(timeout for timeout in timeouts if timeout["type"] == "LIFETIME")
    assert 0 < int(lifetime["remainingTimeInSeconds"]) <= 400 - int(time.monotonic() - began)


def test_another_certificate_is_refused(ready: dask_on_yarn.Ready, starts: Starter) -> None:
    from distributed import Client
    from distributed.security import Security

    with pytest.raises(OSError, match=r"(?i)certificate|ssl") as refused:
        Client(ready.scheduler, security=Security.temporary(), timeout=3)
    print(refused.value)


def test_fewer_and_more_workers_and_no_data_is_lost(
    application: dask_on_yarn.Application, ready: dask_on_yarn.Ready
) -> None:
    with client_of(ready) as client:
        kept = client.scatter([list(range(1000)), list(range(2000))], broadcast=False)
        dask_on_yarn.scale(application, (1, 1))
        until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 1)
        assert client.submit(lambda parts: sum(map(sum, parts)), kept).result() == 499500 + 1999000
        dask_on_yarn.scale(application, (0, 2))  # elastic: the work decides
        slow = client.map(lambda seconds: __import__("time").sleep(seconds), [0.5] * 16, pure=False)
        until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 2, 40)
        client.gather(slow)
        del slow, kept
        until(lambda: not client.scheduler_info(n_workers=-1)["workers"], 40)
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3, "the first worker comes when there is work"
    with pytest.raises(ValueError, match=r"workers: \(3, 2\) is not possible; allowed: two whole numbers"):
        dask_on_yarn.scale(application, (3, 2))


def test_a_dead_worker_is_replaced_and_a_dead_scheduler_ends_all(
    node: YarnServer, application: dask_on_yarn.Application, ready: dask_on_yarn.Ready
) -> None:
    dask_on_yarn.scale(application, (1, 1))

    def names() -> set[str]:
        return {str(worker["name"]) for worker in client.scheduler_info(n_workers=-1)["workers"].values()}

    def kill(what: str) -> None:
        [process] = [pid for pid, words in node.containers().items() if what in words and "bash" not in words]
        os.kill(process, signal.SIGKILL)

    with client_of(ready) as client:
        until(lambda: len(names()) == 1)
        before = names()
        kill(" -m dask worker ")
        until(lambda: len(names()) == 1 and names() != before, 40)
    kill(".pyz yarn scheduler")
    report = until_over(node, application.identity)
    assert report["finalStatus"] == "FAILED"
    with pytest.raises(NotReady, match=f"{application.identity} is over: FINISHED, FAILED: .*dask.scheduler"):
        dask_on_yarn.wait_ready(application, 1, 10)
    assert dask_on_yarn.kill(application.identity)["finalStatus"] == "FAILED", "already over is fine"


def test_nobody_is_needed_for_its_end(node: YarnServer, starts: Starter) -> None:
    idle, shut = starts(idle_timeout=1, tls=False), starts()
    ready = dask_on_yarn.wait_ready(idle, 1, 60)
    assert ready.scheduler.startswith("tcp://")
    assert ready.tls is None
    with client_of(ready):  # a client is no idleness
        time.sleep(3)
        assert node.application(idle.identity)["state"] == "RUNNING"
        dask_on_yarn.extend(idle, 6)
    time.sleep(3)
    assert node.application(idle.identity)["state"] == "RUNNING", "it was extended"
    assert dask_on_yarn.started(shut.folder) == shut
    client_of(dask_on_yarn.wait_ready(shut, 1, 60)).shutdown()
    for application, why in ((idle, "idle_timeout: nothing to do for 1 s"), (shut, "the scheduler was shut down")):
        report = until_over(node, application.identity)
        assert (report["finalStatus"], report["diagnostics"].strip()) == ("SUCCEEDED", why)


def test_the_cause_is_named_when_it_cannot_start(node: YarnServer, starts: Starter) -> None:
    said: list[str] = []
    large = starts(worker_memory=100_000)
    hopeless = starts(env={"DASK_DISTRIBUTED__WORKER__PRELOAD": "no_such_module"})
    with pytest.raises(NotReady, match=f"{large.identity} is over: .*100000"):
        dask_on_yarn.wait_ready(large, 1, 60)
    with pytest.raises(
        NotReady, match=r"workers do not start; dask.worker_\d+ ended: ModuleNotFoundError: .*no_such_mod"
    ):
        dask_on_yarn.wait_ready(hopeless, 1, 90, said.append)
    assert [line for line in said if "; dask.worker_0 ended: ModuleNotFoundError" in line]
    crowded = starts(workers=(4, 4), worker_memory=5000, max_lifetime=20)
    with pytest.raises(NotReady, match=f"{crowded.identity} is over: KILLED, KILLED: .*lifetime"):
        dask_on_yarn.wait_ready(crowded, 4, 60, said.append)
    assert re.search(r"\n[012] of 4 workers have joined, YARN has no container yet for \d \(it has", "\n".join(said))
    assert not node.applications()
