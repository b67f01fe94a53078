"""Starting, stopping and disturbing the components of one Airflow."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from dev.airflow_server import processes, settings
from dev.airflow_server.airflow2 import Airflow2Client
from dev.airflow_server.client import AirflowClient, AirflowError, TaskInstance
from dev.airflow_server.processes import Process
from dev.airflow_server.rest import Airflow3Client

CHECKOUT = Path(__file__).resolve().parents[2]
COMPONENTS = {2: ("scheduler", "triggerer"), 3: ("api-server", "scheduler", "dag-processor", "triggerer")}


@dataclass(frozen=True)
class TaskProcesses:
    task: int
    supervisor: int


class AirflowServer:
    """One Airflow with LocalExecutor and SQLite in `home`, which may be fresh or from an earlier run.

    `python` is an interpreter that has Airflow; `config` holds more `AIRFLOW__SECTION__KEY` settings (written to
    `home/airflow.cfg`, under their Airflow 3 names for both versions); `env` more environment of all components and
    so of the tasks; `database` names a PostgreSQL (`user@/name?host=folder`) to use instead of SQLite, which many tasks
    at once bring to a standstill. Nothing of the caller's own Airflow leaks in. When the calling process ends, in
    whatever way, so does this Airflow with all its tasks and whatever these started.
    """

    def __init__(
        self,
        home: Path,
        python: Path,
        dags_folder: Path,
        config: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        database: str | None = None,
    ) -> None:
        self.database = database
        self.home = home.absolute()
        self.python = python.absolute()  # not resolved: a venv is known by the link's own place
        self.dags_folder = dags_folder.absolute()
        self.config = dict(config or {})
        self.environment = settings.environment(self.home, env or {})
        self.version = self._airflow_version()
        self.major = int(self.version.split(".")[0])
        self.port = 0
        self._keeper: subprocess.Popen[bytes] | None = None
        self._client: AirflowClient | None = None
        self._started: dict[str, float] = {}

    # Life

    def start(self, timeout: float = 120) -> None:
        """Writes the configuration, makes or migrates the database, starts all components, waits until they work."""
        self.prepare()
        self._start_keeper()
        try:
            for name in COMPONENTS[self.major]:
                self.start_component(name)
            self._wait_until_ready(timeout)
        except BaseException:
            self.stop()
            raise

    def prepare(self) -> None:
        """All of start() that needs no running process."""
        for folder in ("logs", "plugins", "config"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        if not self.database:
            (self.home / "config" / "airflow_local_settings.py").write_text(settings.LOCAL_SETTINGS)
        state = settings.load_json(self.home / "server.json")
        self.port = _free_port(int(state.get("port", 0)))
        kept = {name: state.get(name) or _secret() for name in ("fernet_key", "secret_key", "jwt_secret")}
        config = self.config
        if self.database:
            config = {**config, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{self.database}"}
        merged = settings.options(self.major, self.home, self.dags_folder, self.port, kept, config)
        _write_private(self.home / "airflow.cfg", settings.as_cfg(merged))
        # A note of an earlier keeper must not survive: its process id may be somebody else's by now.
        _write_private(self.home / "server.json", json.dumps({**kept, "port": str(self.port), "url": self.url}))
        if self.database:
            self.run_cli("db", "migrate", log="migrate.log")
        elif state.get("migrated") != self.version or not (self.home / "airflow.db").exists():
            with contextlib.closing(sqlite3.connect(self.home / "airflow.db")) as database:
                database.execute("PRAGMA journal_mode=WAL")
            self.run_cli("db", "migrate", log="migrate.log")
        self._note(migrated=self.version)

    def abandon_runs(self) -> None:
        """Marks failed what an earlier stop() cut off, or it would go on with the next start(). Before start() only."""
        if self._keeper is not None:
            raise AirflowError("runs are abandoned before the start, not under a living scheduler")
        if not (self.home / "airflow.db").exists():
            return
        with contextlib.closing(sqlite3.connect(self.home / "airflow.db")) as database, database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'dag_run'").fetchone():
                return
            unfinished = "WHERE state IN ('running', 'queued')"
            states = "'scheduled', 'queued', 'running', 'restarting', 'deferred', 'up_for_retry', 'up_for_reschedule'"
            database.execute(
                f"UPDATE task_instance SET state = 'failed', trigger_id = NULL WHERE state IN ({states}) "
                f"AND (dag_id, run_id) IN (SELECT dag_id, run_id FROM dag_run {unfinished})"
            )
            database.execute(f"UPDATE dag_run SET state = 'failed' {unfinished}")

    def stop(self, grace: float = 1.5) -> None:
        """Ends everything: the components, running tasks, and whatever tasks started and detached."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._keeper is None:
            return
        keeper, self._keeper = self._keeper, None
        with contextlib.suppress(OSError, ValueError, AirflowError):
            _ask(keeper, "end_all", grace=grace, spare=[])
        assert keeper.stdin is not None
        with contextlib.suppress(OSError):
            keeper.stdin.close()
        try:
            keeper.wait(30)
        except subprocess.TimeoutExpired:
            processes.end([process.pid for process in processes.family(keeper.pid)], 0)
            keeper.wait()
        if keeper.stdout is not None:
            keeper.stdout.close()
        self._note(keeper="")

    def detach(self) -> None:
        """Lets it run on when this process ends; `stop_detached` ends it."""
        self._ask("detach")
        self._keeper = None

    def __enter__(self) -> AirflowServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Its components: "api-server" (3.x), "scheduler", "dag-processor" (3.x), "triggerer", on demand "triggerer-2"
    # (any name that begins so) and "webserver" (2.11)

    def start_component(self, name: str) -> int:
        """Starts (again) one component; returns its process id at once."""
        kind = "triggerer" if name.startswith("triggerer") else name
        arguments = [kind]
        if kind in ("scheduler", "triggerer"):
            arguments.append("--skip-serve-logs")  # the files lie on this machine
        if kind == "webserver":
            arguments += ["--port", str(self.port), "--hostname", "127.0.0.1", "--workers", "1"]
        command = [str(self.python), "-m", "airflow", *arguments]
        log = str(self.home / "logs" / f"{name}.log")
        self._started[name] = time.time()
        started = self._ask("start", name=name, argv=command, env=self.environment, cwd=str(self.home), log=log)
        return int(started["pid"])

    def pid(self, name: str) -> int:
        """Process id of a component; raises AirflowError when it does not run."""
        state = self._ask("status").get(name)
        if state is None or state["returncode"] is not None:
            raise AirflowError(f"{name} does not run: {state}")
        return int(state["pid"])

    def components(self) -> dict[str, int | None]:
        """Name -> None while it runs, else its exit code (negative: the signal)."""
        return {name: state["returncode"] for name, state in self._ask("status").items()}

    def signal(self, name: str, number: int, *, tree: bool = False) -> None:
        """Sends a signal to one component; `tree`: also to the processes below it (the tasks of a scheduler too)."""
        self._ask("signal", name=name, number=int(number), tree=tree)

    def kill(self, name: str, *, tree: bool = False) -> None:
        """SIGKILL, and waits until it is gone. Without `tree` its children live on, as after a crash."""
        self.signal(name, signal.SIGKILL, tree=tree)
        deadline = time.monotonic() + 10
        while self.components()[name] is None:
            if time.monotonic() > deadline:
                raise AirflowError(f"{name} survived SIGKILL for 10 s")
            time.sleep(0.05)

    def freeze(self, name: str) -> None:
        """SIGSTOP for a component and all below it: a machine that stalls."""
        self.signal(name, signal.SIGSTOP, tree=True)

    def thaw(self, name: str) -> None:
        self.signal(name, signal.SIGCONT, tree=True)

    def end_component(self, name: str, grace: float = 10) -> None:
        """An orderly end of one component and what is below it: SIGTERM, `grace` seconds, SIGKILL."""
        self._ask("end", name=name, grace=grace)

    def heal(self) -> None:
        """Lets stopped components go on, starts those that are gone, and waits until all work. For between tests."""
        states = self.components()
        for name in COMPONENTS[self.major]:
            if name in states and states[name] is None:
                self.thaw(name)
            else:
                self.start_component(name)
        self._wait_until_ready(60)

    def kill_all(self, spare: Sequence[str] = ()) -> None:
        """SIGKILL for all of this Airflow at once, as if the machine's Airflow had died.

        Processes whose command line holds one of `spare` live on (`("dask",)`: clusters). `start_component` brings
        components back.
        """
        self._ask("end_all", grace=0, spare=list(spare))

    def processes(self) -> list[Process]:
        """All processes of this Airflow, running tasks and what these have started (also detached) included."""
        return [] if self._keeper is None else processes.descendants(self._keeper.pid)

    def task_processes(self, instance: TaskInstance) -> TaskProcesses:
        """The two processes of a *running* task. Killing either alone, or both, are three different accidents."""
        for process in self.processes():
            if process.pid == instance.pid:
                return TaskProcesses(task=process.pid, supervisor=process.ppid)
        raise AirflowError(f"{instance.label} has no process {instance.pid}; it is {instance.state}")

    # Talking to it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> AirflowClient:
        if self._client is None:
            if self.major == 2:
                self._client = Airflow2Client(self.home, self.python, self.environment)
            else:
                self._client = Airflow3Client(self.home, self.url)
        return self._client

    def run_cli(self, *arguments: str, log: str = "cli.log", timeout: float = 300) -> str:
        """`airflow <arguments>` with this server's configuration; returns its stdout."""
        command = [str(self.python), "-m", "airflow", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=timeout
        )
        with (self.home / "logs" / log).open("a") as output:
            output.write(f"$ airflow {' '.join(arguments)}\n{done.stdout}{done.stderr}\n")
        if done.returncode != 0:
            raise AirflowError(f"airflow {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    # Inside

    def _airflow_version(self) -> str:
        program = "from importlib.metadata import version; print(version('apache-airflow'))"
        found = subprocess.run([str(self.python), "-c", program], env=self.environment, capture_output=True, text=True)
        if found.returncode != 0:
            raise AirflowError(f"{self.python} has no Airflow: {found.stderr.strip().splitlines()[-1:]}")
        return found.stdout.strip()

    def _start_keeper(self) -> None:
        if self._keeper is not None:
            raise AirflowError("started already")
        with open(self.home / "logs" / "keeper.log", "ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "dev.airflow_server.keeper"],
                env={**self.environment, "PYTHONPATH": str(CHECKOUT)},
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal reaches the owner alone, who then stops it all
            )
        self._note(keeper=str(self._keeper.pid))

    def _ask(self, operation: str, **arguments: Any) -> Any:
        if self._keeper is None:
            raise AirflowError("not started")
        return _ask(self._keeper, operation, **arguments)

    def _wait_until_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while missing := list(self._not_ready()):
            for name, code in self.components().items():
                if code is not None and name in COMPONENTS[self.major]:
                    raise AirflowError(f"{name} ended with {code}:\n{_tail(self.home / 'logs' / f'{name}.log')}")
            if time.monotonic() > deadline:
                raise AirflowError(f"not ready after {timeout:.0f} s: {', '.join(missing)}")
            time.sleep(0.2)

    def _not_ready(self) -> Iterator[str]:
        """Components without a heartbeat of their own in the database: that of an earlier process does not count."""
        client = self.client
        if isinstance(client, Airflow3Client):
            try:
                client.healthy()
            except AirflowError:
                yield "api-server"
                return
        heartbeats = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob", "dag-processor": "DagProcessorJob"}
        with contextlib.closing(self._connect()) as database:
            cursor = database.cursor()
            for name in COMPONENTS[self.major]:
                if name not in heartbeats:
                    continue
                started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._started[name]))
                cursor.execute(
                    f"SELECT count(*) FROM job WHERE job_type = '{heartbeats[name]}' AND state = 'running' "
                    f"AND start_date >= '{started}'"
                )
                if not cursor.fetchone()[0]:
                    yield name

    def _connect(self) -> Any:
        if not self.database:
            return sqlite3.connect(self.home / "airflow.db", timeout=60)
        import psycopg2

        connection = psycopg2.connect(f"postgresql://{self.database}", options="-c timezone=UTC")
        connection.autocommit = True
        return connection

    def _note(self, **values: str) -> None:
        path = self.home / "server.json"
        _write_private(path, json.dumps({**settings.load_json(path), **values}))


def stop_detached(home: Path) -> bool:
    """Ends the Airflow that was left running in `home`. False: none was."""
    keeper = running_keeper(home)
    if keeper is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(keeper, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while processes.alive(keeper) and time.monotonic() < deadline:
        time.sleep(0.1)
    if processes.alive(keeper):
        processes.end([process.pid for process in processes.family(keeper)], 0)
    return True


def running_keeper(home: Path) -> int | None:
    """Process id of the keeper of `home`, if it runs."""
    noted = settings.load_json(home / "server.json").get("keeper")
    for process in processes.all_processes() if noted else ():
        if str(process.pid) == noted and "dev.airflow_server.keeper" in process.command:
            return process.pid
    return None


def noted_url(home: Path) -> str:
    """Where the Airflow of `home` answers, or did when it ran last."""
    return settings.load_json(home / "server.json").get("url", "")


def _ask(keeper: subprocess.Popen[bytes], operation: str, **arguments: Any) -> Any:
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    keeper.stdin.write(json.dumps({"do": operation, **arguments}).encode() + b"\n")
    keeper.stdin.flush()
    line = keeper.stdout.readline()
    if not line:
        raise AirflowError("the keeper of the server is gone")
    answer = json.loads(line)
    if "error" in answer:
        raise AirflowError(f"{operation}: {answer['error']}")
    return answer["result"]


def _secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _free_port(wanted: int) -> int:
    """`wanted` if it is free (the address of the UI stays the same), else any."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise AirflowError("no free port on 127.0.0.1")


def _tail(path: Path, lines: int = 25) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
