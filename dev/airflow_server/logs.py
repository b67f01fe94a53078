"""Task logs as they lie on disk: `attempt=N.log`, and `attempt=N.log.trigger.<id>.log` for what a triggerer wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Airflow 2.11: [2025-01-31T10:00:00.123+0000] {file.py:12} INFO - text
CLASSIC = re.compile(r"^\[(?P<at>[^\]]+)\] \{[^}]*\} (?P<level>[A-Z]+) - (?P<text>.*)$")


@dataclass(frozen=True)
class LogLine:
    at: str = ""
    level: str = ""
    text: str = ""
    logger: str = ""
    """Who said it, "task.stdout" for what the task printed; unknown on Airflow 2.11."""


def parse(line: str) -> LogLine:
    if line.startswith("{"):
        try:
            record = json.loads(line)
        except ValueError:
            return LogLine(text=line)
        text = str(record.get("event", ""))
        for error in record.get("error_detail") or ():
            text += f"\n{error.get('exc_type')}: {error.get('exc_value')}"
        return LogLine(
            str(record.get("timestamp", "")), str(record.get("level", "")), text, str(record.get("logger", ""))
        )
    if match := CLASSIC.match(line):
        return LogLine(match["at"], match["level"].lower(), match["text"])
    return LogLine(text=line)


def log_files(
    folder: Path, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1
) -> list[Path]:
    """Files of one task instance, oldest first."""
    place = folder / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
    if map_index >= 0:
        place /= f"map_index={map_index}"
    attempt = "*" if try_number is None else str(try_number)
    found = {*place.glob(f"attempt={attempt}.log"), *place.glob(f"attempt={attempt}.log.trigger.*.log")}
    return sorted(found, key=lambda file: file.stat().st_ctime)


def read(files: Iterable[Path]) -> list[LogLine]:
    """All lines, in the order of their times where they have one (a task and its trigger write in turns)."""
    lines: list[tuple[str, LogLine]] = []
    for file in files:
        at = ""
        for line in file.read_text(errors="replace").splitlines():
            parsed = parse(line)
            at = parsed.at or at  # a continuation stays behind the line that it continues
            lines.append((at, parsed))
    return [line for _, line in sorted(lines, key=lambda pair: pair[0])]


class LogFollower:
    """New complete lines of files that grow, each once."""

    def __init__(self) -> None:
        self._read: dict[Path, int] = {}

    def new_lines(self, files: Iterable[Path]) -> Iterator[LogLine]:
        for file in files:
            try:
                with file.open("rb") as stream:
                    stream.seek(self._read.get(file, 0))
                    data = stream.read()
            except FileNotFoundError:
                continue
            complete = data[: data.rfind(b"\n") + 1]
            self._read[file] = self._read.get(file, 0) + len(complete)
            for line in complete.decode(errors="replace").splitlines():
                yield parse(line)
