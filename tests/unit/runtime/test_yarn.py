"""What is asked of YARN and of Dask there. A real YARN is asked in tests/integration/yarn."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.config
import pytest
from dask_provider.runtime import yarn_compat, yarn_job
from dask_provider.runtime.dask_side import NotReady
from dask_provider.runtime.yarn_rest import hadoop_settings, web_addresses
from dask_provider.runtime.yarn_service import in_words, leaving, worker_command
from dask_provider.runtime.yarn_spec import YarnSpec

PYTHON = "/opt/dask env/bin/python"


def spec(**fields: Any) -> YarnSpec:
    return YarnSpec.of({"python": PYTHON, "workers": [2, 5], **fields})


def test_the_application_as_skein_wants_it() -> None:
    made = spec(tags=["a:b"], worker_memory=4096, worker_vcores=2, env={"TOKEN": "secret"})
    asked = made.application("/b/runtime.pyz", "/b/application.json", "/b/skein.crt", "/b/skein.pem")
    scheduler, worker = asked["services"]["dask.scheduler"], asked["services"]["dask.worker"]
    assert (asked["tags"], asked["max_attempts"]) == (["a:b"], 1)
    assert asked["master"]["security"]["key_file"] == {"source": "/b/skein.pem"}
    assert scheduler["script"] == "exec '/opt/dask env/bin/python' dask_job_runtime.pyz yarn scheduler"
    assert (scheduler["instances"], scheduler["max_restarts"]) == (1, 0)
    assert (worker["instances"], worker["max_restarts"], worker["depends"]) == (2, -1, ["dask.scheduler"])
    assert worker["resources"] == {"memory": 4096, "vcores": 2}
    assert worker["files"]["dask_job_runtime.pyz"] == {"source": "/b/runtime.pyz", "type": "FILE"}
    assert "secret" not in json.dumps(asked), "it travels in a file"
    assert made.settings()["env"] == {"TOKEN": "secret"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"python": "python3"}, "python: 'python3' is not possible; allowed: an absolute path"),
        ({"workers": [3, 2]}, r"workers: \(3, 2\) is not possible; allowed: two whole numbers, the fewest"),
        ({"workers": [0, 0]}, r"workers: \(0, 0\) is not possible"),
        ({"worker_memory": 199}, "worker_memory: 199 is not possible; allowed: a whole number of MiB, 200 or more"),
        ({"scheduler_vcores": True}, "scheduler_vcores: True is not possible; allowed: a whole number, 1 or more"),
        ({"max_lifetime": 0}, "max_lifetime: 0 is not possible; allowed: seconds, more than 0"),
        ({"tags": ["two words"]}, "tags: .* is not possible; allowed: printable ASCII without blanks"),
        ({"queue": " "}, "queue: ' ' is not possible; allowed: a name"),
        ({"memory": 1}, "memory: no such field; allowed: env, host, idle_timeout"),
    ],
)
def test_what_cannot_be_asked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**fields)


def test_a_worker_leaves_its_nanny_room() -> None:
    container = SimpleNamespace(
        container_id="dask.worker_7", container_resources=SimpleNamespace(memory=4096, vcores=2)
    )
    command = worker_command(spec(host="127.0.0.1").settings(), "tls://10.0.0.2:4", container, ("/c/.crt", "/c/.pem"))
    assert command[1:5] == ["-m", "dask", "worker", "tls://10.0.0.2:4"]
    assert ("--name dask.worker_7 --no-dashboard --nthreads 2 --memory-limit 3996MiB") in " ".join(command)
    assert "--host 127.0.0.1 --protocol tls --tls-ca-file /c/.crt --tls-cert /c/.crt --tls-key /c/.pem" in " ".join(
        command
    )
    assert "tls" not in " ".join(worker_command(spec().settings(), "tcp://10.0.0.2:4", container, None))


class Scheduler:
    """Three workers, the first of which works."""

    def __init__(self) -> None:
        workers = [SimpleNamespace(name=f"w{n}", processing={"task": 1} if n == 0 else {}) for n in range(3)]
        self.workers = {f"tcp://{worker.name}": worker for worker in workers}

    def workers_to_close(self, n: int, attribute: str) -> list[str]:
        return ["w2", "w1", "w0"][:n]


def test_who_leaves() -> None:
    live = ["w0", "w1", "w2", "starting", "waiting"]
    assert leaving(Scheduler(), live, 1, elastic=True) == ["starting"]
    assert leaving(Scheduler(), live, 3, elastic=True) == ["starting", "waiting", "w2"]
    assert leaving(Scheduler(), live, 5, elastic=True) == ["starting", "waiting", "w2", "w1"], "w0 works"
    assert leaving(Scheduler(), live, 5, elastic=False) == ["starting", "waiting", "w2", "w1", "w0"], "as was asked"


def test_why_a_worker_ended() -> None:
    log = [
        "Traceback (most recent call last):",
        '  File "x"',
        "ModuleNotFoundError: No module named 'x'",
        "",
        "The above",
    ]
    log.append("RuntimeError: Nanny failed to start.")
    assert in_words(log, "Exit code: 1") == "ModuleNotFoundError: No module named 'x'"
    assert in_words(["2026-11-21 INFO - Stopping"], "Container killed\n on request.  Exit code is 143") == (
        "Container killed on request. Exit code is 143"
    )
    assert in_words([], "") == "it says nothing"


def test_where_the_resource_manager_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YARN_CONF_DIR", raising=False)
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    with pytest.raises(NotReady, match=r"no yarn-site.xml in HADOOP_CONF_DIR"):
        hadoop_settings("yarn-site")
    rm = "yarn.resourcemanager"
    values = {f"{rm}.hostname": "c-m", f"{rm}.webapp.address": f"${{{rm}.hostname}}:8188"}
    rows = "".join(
        f"<property><name> {name} </name><value>{value}</value></property>" for name, value in values.items()
    )
    (tmp_path / "yarn-site.xml").write_text(f"<configuration>{rows}</configuration>")
    assert web_addresses(hadoop_settings("yarn-site")) == ["http://c-m:8188"]
    assert web_addresses({f"{rm}.hostname": "c-m"}) == ["http://c-m:8088"]
    several = {f"{rm}.ha.enabled": "true", f"{rm}.ha.rm-ids": "rm0, rm1", f"{rm}.hostname.rm0": "c-m-0"}
    several[f"{rm}.webapp.address.rm1"] = "c-m-1:8188"
    assert web_addresses(several) == ["http://c-m-0:8088", "http://c-m-1:8188"]


def test_a_program_can_make_a_yarn_cluster_of_its_own(tmp_path: Path) -> None:
    spec = YarnSpec(python="/opt/dask/bin/python", workers=(1, 1), tags=("dask-1", "b"))
    env = yarn_job.for_dask_yarn(spec, tmp_path)
    assert (tmp_path / "sitecustomize.py").read_bytes() == Path(yarn_compat.__file__).read_bytes()
    settings = dask.config.collect_env(env)["yarn"]
    assert settings == {"environment": "python:///opt/dask/bin/python", "queue": "default", "tags": ["dask-1", "b"]}


#: applications that a late job leaves alone
NEWER = {"newer", "of_a_run_made_anew", "of_another"}


class Applications(ThreadingHTTPServer):
    """A ResourceManager, as far as jobs ask it."""

    daemon_threads = True

    def __init__(self, folder: Path, **tags: str) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.apps = {
            name: {"id": name, "state": "RUNNING", "applicationTags": tags[name], "diagnostics": ""} for name in tags
        }
        address = f"127.0.0.1:{self.server_port}"
        row = f"<property><name>yarn.resourcemanager.webapp.address</name><value>{address}</value></property>"
        (folder / "yarn-site.xml").write_text(f"<configuration>{row}</configuration>")

    def running(self) -> set[str]:
        return {name for name, app in self.apps.items() if app["state"] == "RUNNING"}


class Asked(BaseHTTPRequestHandler):
    server: Applications

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].removeprefix("/ws/v1/cluster/apps").strip("/")
        if self.path.endswith("/info"):
            self._answer({"clusterInfo": {"haState": "ACTIVE"}})
        elif name:
            self._answer({"app": self.server.apps[name]})
        else:
            self._answer({"apps": {"app": [self.server.apps[name] for name in self.server.running()]}})

    def do_PUT(self) -> None:
        name = self.path.split("/")[-2]
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.apps[name]["state"] = "KILLED"
        self._answer({"state": "KILLED"})

    def _answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Not into the output of the tests."""


@pytest.fixture
def applications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Applications]:
    monkeypatch.delenv("YARN_CONF_DIR", raising=False)
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    tags = {
        "older": "dask-x-1.50,dask-x",
        "later_by_its_clock": "dask-x-1.70,dask-x",
        "of_a_run_before": "dask-x,dask-x-7.20",
        "newer": "dask-x-3.70,dask-x",
        "of_a_run_made_anew": "dask-x-1.300061,dask-x",
        "of_another": "dask-y,dask-y-1.10",
    }
    with Applications(tmp_path, **tags) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_job_ends_older_tries_and_its_own_but_no_newer_one(
    applications: Applications, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Try 2 of four begins late: when a newer one is there."""

    def start(*_: Any) -> None:
        assert applications.running() == NEWER
        own = {"id": "own", "state": "RUNNING", "applicationTags": "dask-x-2.60,dask-x", "diagnostics": ""}
        applications.apps["own"] = own
        raise NotReady("YARN does not take the application")

    monkeypatch.setattr(yarn_job, "start", start)
    monkeypatch.setattr(yarn_job.signal, "signal", lambda *_: None)
    wanted = {"python": PYTHON, "workers": [1, 1], "tags": ["dask-x", "dask-x-2.60"]}
    (tmp_path / "job.json").write_text(json.dumps({"yarn": wanted, "env": {}, "min_workers": 1, "ready_timeout": 1}))
    assert yarn_job.main([str(tmp_path / "job.json")]) == 1
    assert applications.running() == NEWER
    assert applications.apps["own"]["state"] == "KILLED"
    assert "does not take" in json.loads((tmp_path / "outcome.json").read_text())["reason"]
