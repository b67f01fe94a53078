"""What ended long ago is removed from the state folder; what is young, or still runs, stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from dask_provider.hooks.host import forget_old
from dask_provider.runtime.processes import identity
from dask_provider.runtime.records import write_record


def test_only_old_and_ended_things_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DASK__STATE_DIR", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__DASK__KEEP_DAYS", "2")
    names = ("clusters/old", "clusters/young", "clusters/old-but-alive", "jobs/a/a-1", "jobs/a/a-2", "staging/i/a/a-1")
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    write_record(tmp_path / "clusters/old-but-alive/keeper.json", identity(os.getpid()))
    long_ago = time.time() - 3 * 86400
    for name in names:
        if name not in ("clusters/young", "jobs/a/a-2"):
            os.utime(tmp_path / name, (long_ago, long_ago))
    forget_old()
    left = {name for name in names if (tmp_path / name).exists()}
    assert left == {"clusters/young", "clusters/old-but-alive", "jobs/a/a-2"}
