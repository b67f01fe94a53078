"""What the emulator knows, on disk: written before a request is answered, so that its own end loses nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Store:
    """JSON records by kind and key, in one file."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(path, isolation_level=None)
        # The emulator may be killed; the machine under it is not expected to be.
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute(
            "CREATE TABLE IF NOT EXISTS records (kind TEXT, key TEXT, body TEXT, PRIMARY KEY (kind, key))"
        )

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written within is there as a whole or not at all."""
        self._base.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    def put(self, kind: str, key: str, body: Any) -> None:
        self._base.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, key, json.dumps(body)))

    def remove(self, kind: str, key: str) -> None:
        self._base.execute("DELETE FROM records WHERE kind = ? AND key = ?", (kind, key))

    def all(self, kind: str) -> dict[str, Any]:
        rows = self._base.execute("SELECT key, body FROM records WHERE kind = ? ORDER BY rowid", (kind,))
        return {key: json.loads(body) for key, body in rows}

    def clear(self) -> None:
        self._base.execute("DELETE FROM records")

    def close(self) -> None:
        self._base.close()
