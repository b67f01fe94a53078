"""What the place changes of the event table: the same accidents, with clusters and jobs on a real Kubernetes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dask_provider.triggers.base import WAITING

from tests.system.calm import kill, underway
from tests.system.kubernetes import Airflow
from tests.system.run import Run, wait_until

#: said by a retry
ADOPTED = "goes on, an earlier try started it"


class KubernetesRun(Run):
    """A run whose clusters and jobs are objects of the namespace."""

    task_id = "etl.run"

    def __init__(self, airflow: Airflow, name: str, dag_id: str, mode: str, **conf: Any) -> None:
        folder = airflow.place.shared / name
        folder.mkdir()
        super().__init__(airflow.server, folder, dag_id, **conf)
        self.mode, self.place = mode, airflow.place
        self.names: set[str] = set()

    def underway(self) -> None:
        """The job's program runs, and the task waits for it the way it is meant to."""
        underway(self, self.mode, self.task_id)
        self.know()

    def know(self) -> None:
        """What there is of this run by now."""
        notes = {key: item["metadata"].get("annotations", {}) for key, item in self.place.objects().items()}
        ours = {key for key, note in notes.items() if self.run_id in note.get("dask-provider/owner", "")}
        self.names = {key.partition("/")[2] for key in ours}
        assert self.names, "a cluster or a job"

    def objects(self) -> dict[str, str]:
        """What there is of this run, with uids; the operator's objects carry the names of ours."""
        found = self.place.objects()
        return {key: item["metadata"]["uid"] for key, item in found.items() if any(name in key for name in self.names)}

    @contextmanager
    def held(self) -> Iterator[None]:
        """A finalizer holds the DaskCluster, so that it cannot go meanwhile."""
        name = next(key.partition("/")[2] for key in self.objects() if key.startswith("DaskCluster/"))
        patch = ("patch", "daskcluster", name, "-n", self.place.name, "--type=merge", "-p")
        self.place.server.kubectl(*patch, '{"metadata": {"finalizers": ["example.com/held"]}}')
        try:
            yield
        finally:
            self.place.server.kubectl(*patch, '{"metadata": {"finalizers": null}}')

    def assert_gone(self, within: float = 60, *_: Path) -> None:
        wait_until(lambda: not self.objects(), "nothing is left of the run in the namespace", within)


class PlainRun(KubernetesRun):
    """A run of a job without a cluster. Its Job stays when it has ended, until it is removed."""

    task_id = "run"

    def __init__(self, airflow: Airflow, name: str, mode: str, **conf: Any) -> None:
        super().__init__(airflow, name, f"plain_{mode}", mode, gated=True, **conf)

    def release(self) -> None:
        """Let the program end, once its first try was too late."""
        self.until_said("run", " failed: DeadlineExceeded: ", try_number=1)
        self.gate.touch()

    def remove(self) -> None:
        jobs = [key.partition("/")[2] for key in self.objects() if key.startswith("Job/")]
        self.place.server.kubectl("delete", "job", "-n", self.place.name, "--wait=false", *jobs)
        self.assert_gone()


def test_events(kubernetes_airflow: Airflow) -> None:
    """Side by side, each with a cluster or a plain job of its own."""
    failed = {
        mode: KubernetesRun(kubernetes_airflow, f"failed-{mode}", f"kubernetes_{mode}", mode, gated=True)
        for mode in ("running", "deferred")
    }
    killed = KubernetesRun(kubernetes_airflow, "killed", "kubernetes_running", "running", gated=True)
    cleared = KubernetesRun(kubernetes_airflow, "cleared", "kubernetes_deferred", "deferred", gated=True)
    plain = PlainRun(kubernetes_airflow, "plain-killed", "running")
    late = PlainRun(kubernetes_airflow, "plain-late", "deferred", deadline=40)
    # Aside: its next try has no more time than the first.
    released = ThreadPoolExecutor(1).submit(late.release)
    for run in (*failed.values(), killed, cleared, plain):
        run.underway()
    one_job_one_pod = plain.objects()

    for run in failed.values():
        run.mark("etl.run", "failed")
    for run in (killed, plain):
        kill(run, run.task_id, "both")
    cleared.client.clear(cleared.dag_id, cleared.run_id, ["etl.run"])

    for run in failed.values():
        assert run.end() == "failed", run.states()
        assert run.states()["etl.delete_cluster"] == "success"
        assert (run.starts(), run.ends()) == (1, 0)
        run.assert_gone()

    cleared.until_started(2)
    for run in (killed, plain):
        run.until_said(run.task_id, ADOPTED, try_number=2)
    for run in (killed, plain, cleared):
        run.gate.touch()
    assert plain.end() == "success", plain.states()
    assert (plain.starts(), plain.ends()) == (1, 1), "re-attached: neither cancelled nor run twice"
    assert plain.objects() == one_job_one_pod
    assert sorted(key.partition("/")[0] for key in one_job_one_pod) == ["Job", "Pod"]
    assert plain.lines("run", 2) == plain.counted("run"), "the whole log is shown by the retry"

    # By its exit code alone it would have succeeded.
    released.result()
    assert late.end() == "success", late.states()
    assert "    ends in good order" in late.log("run", 1), "the last lines of its output"
    assert [late.notes(what) for what in ("start", "terminated", "end")] == [2, 1, 1], "a retry ran it anew"

    assert killed.end() == "success", killed.states()
    assert (killed.starts(), killed.ends()) == (1, 1), "re-attached: neither cancelled nor run twice"
    assert cleared.end() == "success", cleared.states()
    assert (cleared.starts(), cleared.ends()) == (2, 1), "the old one ended, a new one ran"
    for run in (killed, cleared):
        run.assert_gone()
    late.know()
    for job in (plain, late):
        job.remove()


@pytest.mark.whole
def test_triggerer_killed_and_restarted(kubernetes_airflow: Airflow) -> None:
    """With a job of a cluster and a plain one."""
    run = KubernetesRun(kubernetes_airflow, "triggerer", "kubernetes_deferred", "deferred", gated=True)
    plain = PlainRun(kubernetes_airflow, "plain-triggerer", "deferred")
    for each in (run, plain):
        each.underway()
    one_job_one_pod = plain.objects()
    run.server.kill("triggerer", tree=True)
    time.sleep(3)
    run.server.start_component("triggerer")
    for each in (run, plain):
        each.until_said(each.task_id, WAITING, times=2)
        each.gate.touch()
    for each in (run, plain):
        assert each.end() == "success", each.states()
        assert (each.starts(), each.ends()) == (1, 1)
        assert each.until(each.task_id, "success").try_number == 1
        # What the killed one had not noted comes twice.
        assert sorted(set(each.lines(each.task_id))) == sorted(each.counted(each.task_id)), "nothing is missing"
    assert plain.objects() == one_job_one_pod
    run.assert_gone()
    plain.remove()


@pytest.mark.whole
def test_killed_while_a_cluster_is_made_and_while_it_goes(kubernetes_airflow: Airflow) -> None:
    """The worker's processes, and the triggerer of another run."""
    server = kubernetes_airflow.place.server
    server.control("kill", "operator")  # what is made stays half made
    running = KubernetesRun(kubernetes_airflow, "made-running", "kubernetes_running", "running", gated=True)
    deferred = KubernetesRun(kubernetes_airflow, "made-deferred", "kubernetes_patient", "deferred", gated=True)
    running.until_said("etl.create_cluster", "the scheduler is starting")
    deferred.until("etl.create_cluster", "deferred")
    deferred.until_followed("etl.create_cluster", "deferred")
    made = {}
    for run in (running, deferred):
        run.know()
        made |= run.objects()
    kill(running, "etl.create_cluster", "both")
    deferred.server.kill("triggerer", tree=True)
    deferred.server.start_component("triggerer")
    running.until_said("etl.create_cluster", "the scheduler is starting", try_number=2)
    deferred.until_said("etl.create_cluster", WAITING, times=2)
    server.control("start", "operator")
    for run in (running, deferred):
        run.underway()
        assert run.xcom("etl.create_cluster")["uid"] in made.values(), "the cluster that was half made"
    with running.held():
        for run in (running, deferred):
            run.gate.touch()
        running.until_said("etl.delete_cluster", ": deleting")
        kill(running, "etl.delete_cluster", "both")
        running.until_said("etl.delete_cluster", ": deleting", try_number=2)
    for run in (running, deferred):
        assert run.end() == "success", run.states()
        assert (run.starts(), run.ends()) == (1, 1)
        run.assert_gone()


@pytest.mark.whole
def test_node_lost_for_a_while(kubernetes_airflow: Airflow) -> None:
    """Its containers go on meanwhile, unseen: nobody can tell how one ended, and nobody can end one."""
    unseen = KubernetesRun(kubernetes_airflow, "unseen", "kubernetes_patient", "deferred", gated=True)
    ended = KubernetesRun(kubernetes_airflow, "ended", "kubernetes_running", "running", gated=True)
    for run in (unseen, ended):
        run.underway()
    with ended.place.server.node_away():
        unseen.gate.touch()
        ended.mark("etl.run", "failed")
        ended.until("etl.delete_cluster", "running")
        wait_until(unseen.ends, "the program has ended")
        unseen.until_said("etl.run", "connection refused")  # by the node, when it is asked for the log
        time.sleep(6)  # more than whoever looks would need
        assert unseen.states()["etl.run"] == "deferred", unseen.log("etl.run")
        assert ended.states()["etl.delete_cluster"] == "running", ended.log("etl.delete_cluster")
        assert [key for key in ended.objects() if key.startswith("Pod/")], "nothing is gone that still runs"
    assert unseen.end() == "success", unseen.states()
    assert (unseen.starts(), unseen.ends()) == (1, 1)
    assert unseen.lines("etl.run") == unseen.counted("etl.run"), "each line once, none lost"
    assert ended.end() == "failed", ended.states()
    assert (ended.starts(), ended.ends()) == (1, 0)
    assert ended.states()["etl.delete_cluster"] == "success"
    assert "nothing is left of it" in ended.log("etl.delete_cluster")
    for run in (unseen, ended):
        run.assert_gone()


@pytest.mark.whole
def test_api_server_away_for_two_minutes(kubernetes_airflow: Airflow) -> None:
    """While one task waits for its job, and another for its cluster."""
    job = KubernetesRun(kubernetes_airflow, "away-job", "kubernetes_patient", "deferred", gated=True)
    job.underway()
    server = job.place.server
    server.control("kill", "operator")  # so the second cluster stays half made until it is back
    create = KubernetesRun(kubernetes_airflow, "away-create", "kubernetes_patient", "deferred")
    create.until("etl.create_cluster", "deferred")
    create.until_followed("etl.create_cluster", "deferred")
    create.know()
    made = create.objects()
    with server.api_away():
        time.sleep(120)
        job.gate.touch()
        assert job.states()["etl.run"] == "deferred", job.log("etl.run")
    assert create.end() == "success", create.log("etl.create_cluster")
    assert create.xcom("etl.create_cluster")["uid"] in made.values(), "the cluster that was half made"
    assert job.end() == "success", job.states()
    for run in (job, create):
        assert (run.starts(), run.ends()) == (1, 1)
        assert run.lines("etl.run") == run.counted("etl.run"), "each line once, none lost"
        assert run.states()["etl.delete_cluster"] == "success"
        run.assert_gone()


@pytest.mark.whole
def test_all_of_airflow_gone(kubernetes_airflow: Airflow) -> None:
    run = KubernetesRun(kubernetes_airflow, "gone", "kubernetes_brief", "deferred", seconds=10)
    run.underway()
    run.server.kill_all()
    assert run.objects(), "the cluster lives on"
    run.assert_gone(240)
    assert run.ends() == 1, "the job was not disturbed; the lease ended the cluster when it had been idle"
    run.server.heal()
