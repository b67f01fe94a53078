"""Unit files as a node's systemd reads them, as far as it is stood in for: what is not known here is refused.

Runs inside nodes, with the standard library alone.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

UNITS = Path("/etc/systemd/system")
_ALLOWED = {
    "Unit": {"Description", "Documentation", "After", "Before", "Wants", "StartLimitIntervalSec"},
    "Service": {
        *(
            "Type",
            "User",
            "WorkingDirectory",
            "Environment",
            "EnvironmentFile",
            "ExecStartPre",
            "ExecStart",
            "ExecStop",
        ),
        *("Restart", "RestartSec", "KillMode", "TimeoutStopSec", "LimitNOFILE", "StandardOutput", "StandardError"),
    },
    "Install": {"WantedBy"},
}
_CHOICES = {
    "Type": ("simple", "exec"),
    "Restart": ("no", "on-failure", "always"),
    "KillMode": ("mixed", "control-group"),
    "WantedBy": ("multi-user.target",),
    "StartLimitIntervalSec": ("0",),
}
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|sec|min)?")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


class BadUnit(Exception):
    """A unit file that systemd would not run, or that this stand-in does not know how to."""


@dataclass(frozen=True)
class Unit:
    """What a ``.service`` file says. Times are seconds."""

    name: str
    description: str = ""
    user: str = ""
    directory: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    environment_files: tuple[str, ...] = ()
    start_pre: tuple[list[str], ...] = ()
    start: tuple[list[str], ...] = ()
    stop: tuple[list[str], ...] = ()
    restart: str = "no"
    restart_after: float = 0.1
    kill_mode: str = "control-group"
    stop_timeout: float = 90.0
    open_files: int | None = None
    output: str = ""
    errors: str = ""
    wanted_by: str = ""

    def variables(self) -> dict[str, str]:
        """The environment of its commands; files are read anew at every start.

        :raises BadUnit: when a file is missing or not what systemd reads.
        """
        found = dict(self.environment)
        for path in self.environment_files:
            found |= _read_environment(path)
        return found


def load(name: str) -> Unit:
    """Read the unit file of this name.

    :raises FileNotFoundError: there is none.
    :raises BadUnit: with file, line and what is allowed.
    """
    path = UNITS / name
    sections = _sections(path.read_text(), str(path))
    said = {key: values for section in sections.values() for key, values in section.items()}

    def last(key: str, default: str) -> str:
        value = said.get(key, [default])[-1]
        if key in _CHOICES and value not in (*_CHOICES[key], default):
            raise BadUnit(f"{path}: {key}={value}: the stand-in knows {', '.join(_CHOICES[key])}")
        return value

    def commands(key: str) -> tuple[list[str], ...]:
        return tuple(_command(line, f"{path}: {key}") for line in said.get(key, []) if line)

    start = commands("ExecStart")
    if len(start) != 1:
        raise BadUnit(f"{path}: one ExecStart is needed, {len(start)} are there")
    last("Type", "simple")
    last("StartLimitIntervalSec", "0")
    open_files = last("LimitNOFILE", "")
    output = _stream(last("StandardOutput", ""), name)
    return Unit(
        name=name,
        description=last("Description", name),
        user=last("User", ""),
        directory=last("WorkingDirectory", "/"),
        environment=_assignments(" ".join(said.get("Environment", [])), f"{path}: Environment"),
        environment_files=tuple(said.get("EnvironmentFile", [])),
        start_pre=commands("ExecStartPre"),
        start=start,
        stop=commands("ExecStop"),
        restart=last("Restart", "no"),
        restart_after=_seconds(last("RestartSec", "100ms"), f"{path}: RestartSec"),
        kill_mode=last("KillMode", "control-group"),
        stop_timeout=_seconds(last("TimeoutStopSec", "90"), f"{path}: TimeoutStopSec"),
        open_files=int(open_files) if open_files else None,
        output=output,
        errors=_stream(last("StandardError", ""), name) if "StandardError" in said else output,
        wanted_by=last("WantedBy", ""),
    )


def _sections(text: str, path: str) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            section = line.strip("[]")
            if section not in _ALLOWED:
                raise BadUnit(f"{path}: section {line}: the stand-in knows {', '.join(_ALLOWED)}")
            continue
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or key not in _ALLOWED.get(section, ()):
            raise BadUnit(f"{path}: '{line}' in [{section}]: the stand-in knows {sorted(_ALLOWED.get(section, ()))}")
        if key in ("After", "Before", "Wants") and not value.endswith(".target"):
            raise BadUnit(f"{path}: {key}={value}: the stand-in knows targets alone, and they are always reached")
        values = found.setdefault(section, {}).setdefault(key, [])
        if value:
            values.append(value)
        else:
            values.clear()  # an empty value takes back what was said before
    return found


def _command(line: str, where: str) -> list[str]:
    words = shlex.split(line)
    # "$" would be a variable, "%" a specifier, and these first letters change how the command runs.
    if any("$" in word or "%" in word for word in words) or words[0][0] in "-@+!:|":
        raise BadUnit(f"{where}: '{line}': variables, specifiers and prefixes are not known to the stand-in")
    if not words[0].startswith("/"):
        raise BadUnit(f"{where}: '{words[0]}' is no absolute path")
    return words


def _seconds(text: str, where: str) -> float:
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise BadUnit(f"{where}: '{text}' is no time that the stand-in knows")
    return float(match[1]) * {"ms": 0.001, "min": 60.0}.get(match[2] or "s", 1.0)


def _stream(value: str, name: str) -> str:
    if value in ("", "journal"):
        return f"/var/log/journal-{name}.log"
    kind, _, path = value.partition(":")
    if kind != "append" or not path.startswith("/"):
        raise BadUnit(f"{name}: '{value}': the stand-in knows journal and append:/path")
    return path


def _assignments(text: str, where: str) -> dict[str, str]:
    words = shlex.split(text)
    if bad := [word for word in words if not _ASSIGNMENT.fullmatch(word)]:
        raise BadUnit(f"{where}: '{bad[0]}' is no NAME=VALUE")
    return dict(word.split("=", 1) for word in words)


def _read_environment(path: str) -> dict[str, str]:
    optional, path = path.startswith("-"), path.removeprefix("-")
    if not os.path.exists(path):
        if optional:
            return {}
        raise BadUnit(f"EnvironmentFile {path} is missing")
    found = {}
    for line in Path(path).read_text().splitlines():
        if line.strip() and line.strip()[0] not in "#;":
            name, _, value = line.strip().partition("=")
            # Unlike a shell: blanks outside of quotes belong to the value.
            found[name] = shlex.split(value)[0] if value[:1] in ("'", '"') else value
    return found
