"""One unit at work: its process, its restarts and its end, as systemd does it.

Runs inside nodes, with the standard library alone.
"""

from __future__ import annotations

import os
import pwd
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

from units import BadUnit, Unit, load

#: signals that are a clean end (systemd.service, Restart=)
_CLEAN = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE}


#: what every service finds in its environment, as by systemd's DefaultEnvironment=
DEFAULT_ENVIRONMENT: dict[str, str] = {}


class Service:
    """Started and stopped from any thread; a thread of its own waits for the end of its process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unit: Unit | None = None
        self.state, self.result, self.restarts = "inactive", "success", 0
        self.status: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._turn = threading.RLock()  # one start or stop at a time
        self._sessions: set[int] = set()

    def start(self) -> None:
        """Start it, if it does not run.

        :raises BadUnit: the unit cannot be run.
        :raises OSError: its program cannot.
        """
        with self._turn:
            if self.state in ("active", "activating"):
                return
            self.unit = load(self.name)
            self._stopping.clear()
            self.restarts = 0
            self._launch()
            threading.Thread(target=self._supervise, daemon=True).start()

    def stop(self) -> None:
        """Run ``ExecStop``, then end what is left; returns when all is gone."""
        with self._turn:
            self._stopping.set()
            unit, process = self.unit, self.process
            if unit is None or self.state not in ("active", "activating"):
                self.state = "inactive"
                return
            self.state = "deactivating"
            until = time.monotonic() + unit.stop_timeout
            if process is not None and process.poll() is None:
                for command in unit.stop:
                    self._run(unit, command, until)
            self._end(unit, process, time.monotonic() + unit.stop_timeout)
            self.state = "inactive"

    def _launch(self) -> None:
        unit = self.unit
        assert unit is not None
        for command in unit.start_pre:
            if self._run(unit, command, time.monotonic() + 90):
                self.state, self.result = "failed", "exit-code"
                raise BadUnit(f"ExecStartPre={' '.join(command)} failed")
        try:
            self.process = self._popen(unit, unit.start[0])
        except OSError:
            self.state, self.result, self.status = "failed", "exit-code", 203
            raise
        self.state, self.result = "active", "success"

    def _supervise(self) -> None:
        while True:
            process, unit = self.process, self.unit
            assert process is not None
            assert unit is not None
            code = process.wait()
            if self._stopping.is_set():
                return
            self._end(unit, process, time.monotonic() + unit.stop_timeout)
            clean = code == 0 or -code in _CLEAN
            self.status, self.result = code, "success" if clean else "signal" if code < 0 else "exit-code"
            if unit.restart == "no" or (unit.restart == "on-failure" and clean):
                self.state = "inactive" if clean else "failed"
                return
            self.state = "activating"
            if self._stopping.wait(unit.restart_after):
                return
            with self._turn:
                if self._stopping.is_set():
                    return
                self.restarts += 1
                try:
                    self._launch()
                except (BadUnit, OSError) as error:
                    self._log(unit, f"cannot be restarted: {error}")
                    return

    def _run(self, unit: Unit, command: list[str], until: float) -> int:
        try:
            process = self._popen(unit, command)
        except OSError as error:
            self._log(unit, f"{command[0]}: {error}")
            return 203
        try:
            return process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._kill_session(process.pid, signal.SIGKILL)
            return process.wait()

    def _popen(self, unit: Unit, command: list[str]) -> subprocess.Popen[bytes]:
        account = pwd.getpwnam(unit.user) if unit.user and unit.user != "root" else None
        home = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name} if account else {}
        env = {**DEFAULT_ENVIRONMENT, **home, **unit.variables()}
        if self.process is not None and self.process.poll() is None:
            env["MAINPID"] = str(self.process.pid)

        def limit() -> None:
            if unit.open_files is not None:
                # As systemd: what the machine does not allow is brought near to it.
                number = min(unit.open_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
                resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))

        with open(unit.output, "ab") as output, open(unit.errors, "ab") as errors:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=unit.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
                preexec_fn=limit,
            )
        self._sessions.add(process.pid)
        return process

    def _end(self, unit: Unit, process: subprocess.Popen[bytes] | None, until: float) -> None:
        """SIGTERM (to the main process alone if mixed), time, then SIGKILL for all of its sessions."""
        if process is not None and process.poll() is None:
            if unit.kill_mode == "mixed":
                process.terminate()
            else:
                self._kill(signal.SIGTERM)
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
        patience = time.monotonic() + 10
        while self._kill(signal.SIGKILL) and time.monotonic() < patience:
            time.sleep(0.02)
        if process is not None:
            process.wait()
        self._sessions.clear()

    def _kill(self, how: signal.Signals) -> int:
        return sum(self._kill_session(session, how) for session in list(self._sessions))

    def _kill_session(self, session: int, how: signal.Signals) -> int:
        """Every process of a session: the stand-in for a control group. How many lived?"""
        lived = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
                if fields[0] != "Z" and int(fields[3]) == session:
                    os.kill(int(stat.parent.name), how)
                    lived += 1
            except (OSError, ProcessLookupError):  # it has ended in this moment
                continue
        return lived

    def _log(self, unit: Unit, line: str) -> None:
        with open(unit.errors, "a") as log:
            log.write(f"systemd: {self.name}: {line}\n")
