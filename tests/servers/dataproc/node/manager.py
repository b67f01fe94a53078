"""What a node's ``systemctl`` speaks to: the commands, and the services that they mean.

Runs inside nodes, with the standard library alone.
"""

from __future__ import annotations

import json
import socketserver
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from services import Service
from units import UNITS, BadUnit, load

SOCKET = Path("/run/systemd/stand-in")
Answer = tuple[int, str]
_OPTIONS = {"--no-pager", "--quiet", "-q", "--value", "--now", "--full", "-l"}
_SHOWN = ("ActiveState", "SubState", "Result", "MainPID", "NRestarts", "ExecMainStatus")


class Refused(Exception):
    """A command or option that the stand-in does not know."""


class Manager:
    """All services of this node."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._lock = threading.Lock()
        self._commands: dict[str, Callable[[str], Answer]] = {
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "enable": self._enable,
            "disable": self._disable,
            "is-active": self._is_active,
            "is-enabled": self._is_enabled,
            "status": self._status,
        }

    def run(self, argv: Sequence[str]) -> Answer:
        """One command line of ``systemctl``: exit code and output."""
        try:
            return self._run(list(argv))
        except FileNotFoundError as error:
            return 5, f"Failed: {error}"
        except (BadUnit, OSError, subprocess.SubprocessError) as error:
            return 1, f"Failed: {error}"
        except Refused as error:
            return 1, f"the stand-in for systemctl does not know {error}"

    def shut_down(self) -> None:
        """Stop everything at once, as a machine that is turned off."""
        threads = [threading.Thread(target=service.stop) for service in list(self._services.values())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, argv: list[str]) -> Answer:
        properties: list[str] = []
        while "-p" in argv:
            at = argv.index("-p")
            properties += argv[at + 1].split(",")
            del argv[at : at + 2]
        options = {word for word in argv if word.startswith("-")}
        if options - _OPTIONS:
            raise Refused(sorted(options - _OPTIONS)[0])
        command, *names = [word for word in argv if not word.startswith("-")] or [""]
        if command == "daemon-reload" and not names:
            return 0, ""  # files are read at every start
        if command == "poweroff" and not names:
            self.shut_down()
            return 0, ""
        if not names or (command not in self._commands and command != "show"):
            raise Refused(" ".join(argv))
        answers = []
        for name in names:
            name = name if "." in name else f"{name}.service"
            if not name.endswith(".service"):
                raise Refused(name)
            if command == "show":
                answers.append(self._show(name, properties, "--value" in options))
            else:
                answers.append(self._commands[command](name))
                if command == "enable" and "--now" in options:
                    answers.append(self._start(name))
        code = max(answer[0] for answer in answers)
        return code, "" if options & {"-q", "--quiet"} else "\n".join(answer[1] for answer in answers if answer[1])

    def _service(self, name: str) -> Service:
        with self._lock:
            if name not in self._services:
                load(name)  # a unit that is not there, or not right, is no service
                self._services[name] = Service(name)
            return self._services[name]

    def _start(self, name: str) -> Answer:
        self._service(name).start()
        return 0, ""

    def _stop(self, name: str) -> Answer:
        self._service(name).stop()
        return 0, ""

    def _restart(self, name: str) -> Answer:
        self._stop(name)
        return self._start(name)

    def _enable(self, name: str) -> Answer:
        if not load(name).wanted_by:
            return 1, f"{name} has no [Install]"
        link = self._link(name)
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(UNITS / name)
        return 0, ""

    def _disable(self, name: str) -> Answer:
        self._link(name).unlink(missing_ok=True)
        return 0, ""

    def _is_active(self, name: str) -> Answer:
        state = self._services[name].state if name in self._services else "inactive"
        return 0 if state == "active" else 3, state

    def _is_enabled(self, name: str) -> Answer:
        load(name)
        enabled = self._link(name).is_symlink()
        return (0, "enabled") if enabled else (1, "disabled")

    def _status(self, name: str) -> Answer:
        service, unit = self._service(name), load(name)
        code = 0 if service.state == "active" else 3
        lines = [f"{name} - {unit.description}", f"     Active: {service.state} ({service.result})"]
        if service.process is not None:
            lines.append(f"   Main PID: {service.process.pid}, last exit {service.status}, restarts {service.restarts}")
        return code, "\n".join(lines)

    def _show(self, name: str, properties: Sequence[str], values: bool) -> Answer:
        service = self._service(name)
        running = service.process is not None and service.process.poll() is None
        restarting = service.state == "activating"
        seen = {
            "ActiveState": service.state,
            "SubState": "auto-restart" if restarting else {"active": "running", "inactive": "dead"}.get(service.state),
            "Result": service.result,
            "MainPID": service.process.pid if running and service.process is not None else 0,
            "NRestarts": service.restarts,
            "ExecMainStatus": abs(service.status or 0),
        }
        if unknown := set(properties) - set(_SHOWN):
            raise Refused(f"the property {sorted(unknown)[0]}")
        return 0, "\n".join(str(seen[key]) if values else f"{key}={seen[key]}" for key in properties or _SHOWN)

    def _link(self, name: str) -> Path:
        return UNITS / "multi-user.target.wants" / name


def serve(manager: Manager) -> None:
    """Answer ``systemctl`` in threads, for ever."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            code, text = manager.run(json.loads(self.rfile.readline()))
            self.wfile.write(json.dumps([code, text]).encode())

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    SOCKET.parent.mkdir(parents=True, exist_ok=True)
    SOCKET.unlink(missing_ok=True)
    Server(str(SOCKET), Handler).serve_forever()
