"""What the place changes of the event table: the same accidents, with clusters and jobs on a real Kubernetes."""

from __future__ import annotations

import time
from pathlib import Path

from tests.system.calm import kill, underway
from tests.system.kubernetes import Airflow
from tests.system.run import Run, wait_until


class KubernetesRun(Run):
    """A run whose clusters and jobs are objects of the namespace."""

    def __init__(self, airflow: Airflow, name: str, mode: str, seconds: int) -> None:
        folder = airflow.place.shared / name
        folder.mkdir()
        super().__init__(airflow.server, folder, f"kubernetes_{mode}", seconds=seconds)
        self.mode, self.place = mode, airflow.place

        self.names: set[str] = set()

    def underway(self) -> None:
        underway(self, self.mode)
        notes = {key: item["metadata"].get("annotations", {}) for key, item in self.place.objects().items()}
        ours = {key for key, note in notes.items() if self.run_id in note.get("dask-provider/owner", "")}
        self.names = {key.partition("/")[2] for key in ours}
        assert self.names, "a cluster and a job"

    def objects(self) -> list[str]:
        """What is left of this run; the operator's objects carry the names of ours."""
        return [key for key in self.place.objects() if any(name in key for name in self.names)]

    def assert_gone(self, within: float = 60, *_: Path) -> None:
        wait_until(lambda: not self.objects(), "nothing is left of the run in the namespace", within)


def test_events(kubernetes_airflow: Airflow) -> None:
    """Side by side, each with a cluster of its own."""
    seconds = {"failed_running": 600, "failed_deferred": 600, "killed": 60, "cleared": 40}
    modes = {"failed_running": "running", "failed_deferred": "deferred", "killed": "running", "cleared": "deferred"}
    runs = {name: KubernetesRun(kubernetes_airflow, name, modes[name], seconds[name]) for name in modes}
    for run in runs.values():
        run.underway()

    for name in ("failed_running", "failed_deferred"):
        runs[name].mark("etl.run", "failed")
    kill(runs["killed"], "etl.run", "both")
    runs["cleared"].client.clear(runs["cleared"].dag_id, runs["cleared"].run_id, ["etl.run"])

    for name in ("failed_running", "failed_deferred"):
        run = runs[name]
        assert run.end() == "failed", run.states()
        assert run.states()["etl.delete_cluster"] == "success"
        assert (run.starts(), run.ends()) == (1, 0)
        run.assert_gone()
    killed, cleared = runs["killed"], runs["cleared"]
    assert killed.end() == "success", killed.states()
    assert (killed.starts(), killed.ends()) == (1, 1), "re-attached: neither cancelled nor run twice"
    assert "goes on, an earlier try started it" in killed.log("etl.run", 2)
    assert cleared.end() == "success", cleared.states()
    assert (cleared.starts(), cleared.ends()) == (2, 1), "the old one ended, a new one ran"
    for run in (killed, cleared):
        run.assert_gone()


def test_triggerer_killed_and_restarted(kubernetes_airflow: Airflow) -> None:
    run = KubernetesRun(kubernetes_airflow, "triggerer", "deferred", 40)
    run.underway()
    run.server.kill("triggerer", tree=True)
    time.sleep(3)
    run.server.start_component("triggerer")
    assert run.end() == "success", run.states()
    assert (run.starts(), run.ends()) == (1, 1)
    shown = [line for line in run.log("etl.run").splitlines() if line.startswith("line ")]
    assert set(shown) >= {f"line {n}" for n in range(1, 36)}, "nothing is missing"
    run.assert_gone()


def test_all_of_airflow_gone(kubernetes_airflow: Airflow) -> None:
    run = KubernetesRun(kubernetes_airflow, "gone", "deferred", 15)
    run.underway()
    run.server.kill_all()
    assert run.objects(), "the cluster lives on"
    run.assert_gone(240)
    assert run.ends() == 1, "the job was not disturbed; the lease ended the cluster when it had been idle"
    run.server.heal()
