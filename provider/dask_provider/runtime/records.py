"""Small JSON files that are whole or absent, whoever is killed while writing them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Replace the file in one step; readable by its owner only."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(record, file)
    os.replace(scratch, path)


def read_record(path: Path) -> dict[str, Any] | None:
    """The record, or ``None`` when there is no such file.

    :raises ValueError: when the file holds no JSON object.
    """
    try:
        record = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds no JSON object")
    return record
