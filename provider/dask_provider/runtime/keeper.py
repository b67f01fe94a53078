"""The lease of a local cluster: one process that starts scheduler and workers and ends them, with Airflow or without.

Its folder is all that it shares with anybody: ``cluster.json`` says what is wanted, ``status.json`` what is, and
``wanted.json``, ``lease.json`` and the time of ``activity`` are how others talk to it. SIGTERM ends the cluster.
Standard library only, so that keeping a cluster costs some 15 MB.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from .processes import bound_to_me, identity, send_signal, wait_dead
from .records import read_record, write_record

#: seconds between looks while starting, and when all is well
EAGER, CALM = 0.1, 1.0
#: seconds that a worker must stay before it counts: one with too little memory joins, too, and is killed at once
SETTLED = 0.5
#: deaths of a worker in a row, without one joining, after which the cluster counts as failed
HOPELESS = 3
#: seconds that processes have to end by themselves
GRACE = 2.0
#: looks in a row at which Dask must want fewer workers before one is retired
PATIENCE = 5
#: seconds that retired workers may take to hand over their data before others are retired in their place
MOVING = 300

_ROUTES = [
    "distributed.http.scheduler.prometheus",
    "distributed.http.scheduler.info",
    "distributed.http.scheduler.json",
    "distributed.http.scheduler.api",
    "distributed.http.health",
    "distributed.http.proxy",
    "distributed.http.statics",
]


class Failed(RuntimeError):
    """The cluster cannot go on; the message says why."""


def main(arguments: list[str]) -> int:
    """``keeper FOLDER``: keep the cluster that ``cluster.json`` describes until its lease ends or SIGTERM."""
    keeper = Keeper(Path(arguments[0]))
    signal.signal(signal.SIGTERM, keeper.ask_to_end)
    signal.signal(signal.SIGINT, keeper.ask_to_end)
    keeper.keep()
    return 0


class Keeper:
    """One cluster."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        record = read_record(folder / "cluster.json")
        if record is None:
            raise SystemExit(f"{folder} holds no cluster.json")
        self._spec = record
        self._born = time.time()
        self._busy = self._born
        self._asked = False
        self._woken, self._wake = os.pipe()
        self._status: dict[str, Any] = {"state": "starting"}
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._retired: list[subprocess.Popen[bytes]] = []
        self._started = 0
        self._deaths = 0
        self._joined: set[str] = set()
        self._joined_at: dict[str, float] = {}  # by address: a worker that was started again has a new one
        self._settled = 0
        self._was_ready = False
        self._api = ""
        self._too_many = 0
        self._moving_until = 0.0

    def ask_to_end(self, number: int, frame: object) -> None:
        self._asked = True
        with contextlib.suppress(OSError):
            os.write(self._wake, b"1")  # time.sleep would go on after a signal

    def _pause(self, seconds: float) -> None:
        select.select([self._woken], [], [], seconds)

    def keep(self) -> None:
        """Start, look, adjust; then end everything, whatever happened."""
        reason = "the keeper failed"
        try:
            self._start_scheduler()
            while not (ending := self._reason_to_end()):
                self._look()
                self._pause(CALM if self._was_ready and self._settled == len(self._joined) else EAGER)
            reason = ending
        except Failed as error:
            reason = str(error)
            self._tell(problem=reason)
        finally:
            self._end(reason)

    def _reason_to_end(self) -> str | None:
        now, spec = time.time(), self._spec
        if self._asked:
            return str((read_record(self._folder / "ending.json") or {}).get("reason", "deleted"))
        if now - self._born > spec["max_lifetime"]:
            return f"max_lifetime: {spec['max_lifetime']:.0f} s are over"
        lease = read_record(self._folder / "lease.json") or {}
        with contextlib.suppress(FileNotFoundError):
            self._busy = max(self._busy, (self._folder / "activity").stat().st_mtime)
        if not self._was_ready and now - self._born < spec["ready_timeout"]:
            self._busy = now  # starting is work too
        if now - self._busy > spec["idle_timeout"] and now > lease.get("until", 0):
            return f"idle_timeout: nothing to do for {spec['idle_timeout']:.0f} s"
        return None

    # --- processes ---

    def _start_scheduler(self) -> None:
        host = self._spec["host"]
        command = ["scheduler", "--host", host, "--port", "0", "--dashboard-address", f"{host}:0"]
        command += ["--scheduler-file", str(self._folder / "scheduler.json")]
        if self._spec["tls"]:
            self._make_certificates()
            command += ["--protocol", "tls"]
        self._scheduler = self._start("scheduler", command)
        for _ in range(self._spec["workers"][0]):
            self._start_worker()

    def _start_worker(self) -> None:
        name = f"worker-{self._started}"
        self._started += 1
        spec = self._spec
        command = ["worker", "--scheduler-file", str(self._folder / "scheduler.json"), "--name", name]
        command += ["--nthreads", str(spec["threads"]), "--no-dashboard", "--host", spec["host"]]
        command += ["--memory-limit", str(spec["memory"] or "auto")]
        command += ["--local-directory", spec["local_directory"] or str(self._folder / "scratch")]
        if spec["tls"]:
            command += ["--protocol", "tls"]
        self._workers[name] = self._start(name, command)

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with open(self._folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                bound_to_me([self._spec["python"], "-m", "dask", *command]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self._folder,
            )
        children = [identity(p.pid) for p in (self._scheduler, *self._workers.values(), process) if p]
        write_record(self._folder / "children.json", {"children": children})
        return process

    def _environment(self) -> dict[str, str]:
        env = {**os.environ, **self._spec["env"]}
        env["DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"] = json.dumps(_ROUTES)
        # The scheduler appears in its file within seconds; workers that find none must not give up before.
        env["DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT"] = "30s"
        if self._spec["tls"]:
            tls = self._folder / "tls"
            prefix = "DASK_DISTRIBUTED__COMM__TLS__"
            env[prefix + "CA_FILE"] = str(tls / "ca.pem")
            for role in ("SCHEDULER", "WORKER", "CLIENT"):
                env[f"{prefix}{role}__CERT"] = str(tls / "cert.pem")
                env[f"{prefix}{role}__KEY"] = str(tls / "key.pem")
            env["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] = "True"
        return env

    def _make_certificates(self) -> None:
        from distributed.security import Security

        made = Security.temporary()
        folder = self._folder / "tls"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, text in (
            ("ca.pem", made.tls_ca_file),
            ("cert.pem", made.tls_client_cert),
            ("key.pem", made.tls_client_key),
        ):
            with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)

    # --- looking ---

    def _look(self) -> None:
        assert self._scheduler is not None
        if (code := self._scheduler.poll()) is not None:
            raise Failed(f"the scheduler ended with status {code}: {self._last_line('scheduler')}")
        if not self._api:
            try:
                record = read_record(self._folder / "scheduler.json")
            except ValueError:  # Dask is just writing it
                return
            if record is None:
                return
            port = record["services"]["dashboard"]
            self._api = f"http://{self._spec['host']}:{port}/api/v1/"
            self._tell(scheduler_address=record["address"], dashboard_url=f"http://{self._spec['host']}:{port}/status")
        seen = self._ask("get_workers")
        if seen is None:
            return
        now = time.monotonic()
        self._joined = {str(worker["name"]) for worker in seen["workers"]}
        self._joined_at = {w["address"]: self._joined_at.get(w["address"], now) for w in seen["workers"]}
        self._settled = sum(now - since >= SETTLED for since in self._joined_at.values())
        if self._settled:
            self._deaths = 0
        idle = self._ask("check_idle")
        if idle is not None:
            self._busy = max(self._busy, idle["idle_since"] or time.time())
        self._retired = [process for process in self._retired if process.poll() is None]
        self._replace_dead()
        self._was_ready = self._was_ready or self._settled >= self._spec["min_workers"]
        if not self._was_ready:
            self._check_restarts()
        self._adjust()
        # Ready is for whoever waits to judge: they know how many workers they need.
        self._tell(state="ready", workers=self._settled)

    def _ask(self, what: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(self._api + what, data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=3) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None

    def _replace_dead(self) -> None:
        for name, process in list(self._workers.items()):
            if (code := process.poll()) is None:
                continue
            del self._workers[name]
            self._deaths += 1
            problem = f"{name} ended with status {code}: {self._last_line(name)}"
            if self._deaths >= HOPELESS:
                raise Failed(f"workers do not start; {problem}")
            self._tell(problem=problem)

    def _check_restarts(self) -> None:
        """A worker that its nanny starts again and again, say for want of memory, will never be ready."""
        for name in self._workers:
            with contextlib.suppress(OSError):
                log = (self._folder / f"{name}.log").read_text(errors="replace").splitlines()
                restarts = [line for line in log if "Restarting" in line]
                if len(restarts) >= 2 * HOPELESS:
                    raise Failed(f"workers do not start; {name} is restarted all the time: {restarts[0]}")

    def _adjust(self) -> None:
        wanted = read_record(self._folder / "wanted.json")
        low, high = wanted["workers"] if wanted else self._spec["workers"]
        target = low
        if high > low:
            demand = self._ask("adaptive_target")
            target = min(high, max(low, demand["workers"])) if demand else max(low, len(self._workers))
        surplus = len(self._workers) - target
        for _ in range(-surplus):
            self._start_worker()
        self._too_many = self._too_many + 1 if surplus > 0 else 0
        if surplus > 0 and (high == low or self._too_many >= PATIENCE) and time.time() > self._moving_until:
            self._retire(surplus)

    def _retire(self, count: int) -> None:
        """Let the scheduler choose and move the data of the least useful workers, then end their processes."""
        unborn = [name for name in self._workers if name not in self._joined][:count]
        left = self._ask("retire_workers", {"n": count - len(unborn)}) if count > len(unborn) else {}
        if left is None:  # much data to move: they end by themselves once it is done; asking again would retire others
            self._moving_until = time.time() + MOVING
            return
        names = [str(worker["name"]) for worker in left.values() if isinstance(worker, dict) and "name" in worker]
        for name in unborn + names:
            if process := self._workers.pop(name, None):
                process.terminate()
                self._retired.append(process)
        self._too_many = 0

    def _last_line(self, name: str) -> str:
        with contextlib.suppress(OSError):
            lines = (self._folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else "it wrote nothing"
        return "it wrote nothing"

    def _tell(self, **news: Any) -> None:
        status = {**self._status, **news}
        if status != self._status:
            self._status = status
            with contextlib.suppress(OSError):  # a full disk must not keep it from ending what it has started
                write_record(self._folder / "status.json", status)

    # --- the end ---

    def _end(self, reason: str) -> None:
        """Jobs, workers, scheduler; then say so. Nothing that was started here may be left."""
        self._tell(state="ending", reason=reason)
        jobs = [read_record(path) for path in self._folder.glob("jobs/*.json")]
        running = [job for job in jobs if job and send_signal(job, signal.SIGTERM)]
        # The scheduler last: a worker that loses it while it ends itself may hang until it is killed.
        workers = [*self._retired, *self._workers.values()]
        for group in (workers, [self._scheduler] if self._scheduler else []):
            for process in group:
                process.terminate()
            deadline = time.monotonic() + GRACE
            for process in group:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, deadline - time.monotonic()))
                if process.poll() is None:
                    process.kill()
                    process.wait()
        # The runtime gives its program a moment of its own, see job.GRACE; only then it is made to go.
        if not wait_dead(running, 5):
            for job in running:
                send_signal(job, signal.SIGKILL)
        for name in ("scratch", "tls"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        self._tell(state="gone", reason=reason, ended=time.time())
