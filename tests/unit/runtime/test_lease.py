"""When the lease of a cluster on Kubernetes is over. The real one is tested on a real Kubernetes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from dask_provider.runtime.lease import Lease, _extended_until

IDLE: dict[str, Any] = {"clients": 0, "idle_since": 5.0}
BUSY: dict[str, Any] = {"clients": 0, "idle_since": None}


def test_idle_counts_from_the_last_work() -> None:
    lease = Lease(10, 60, now=0)
    assert not lease.over(1, BUSY, 0)
    assert not lease.over(3, IDLE, 0)
    assert not lease.over(12.9, IDLE, 0)
    assert lease.over(13.1, IDLE, 0)


def test_work_between_two_looks_is_seen_by_its_end() -> None:
    lease = Lease(10, 60, now=0)
    lease.over(1, IDLE, 0)
    assert not lease.over(12, IDLE | {"idle_since": 9.0}, 0)
    assert not lease.over(21, IDLE | {"idle_since": 9.0}, 0)


def test_a_client_is_work() -> None:
    lease = Lease(10, 60, now=0)
    assert not any(lease.over(now, IDLE | {"clients": 1}, 0) for now in range(100))


def test_a_scheduler_that_has_not_answered_yet_is_starting() -> None:
    lease = Lease(10, 60, now=0)
    assert not any(lease.over(now, None, 0) for now in range(70))
    assert lease.over(71, None, 0)


def test_a_scheduler_that_is_gone_is_idle() -> None:
    lease = Lease(10, 60, now=0)
    assert not lease.over(1, BUSY, 0)
    assert lease.over(12, None, 0)


def test_an_extended_lease(tmp_path: Path) -> None:
    assert not Lease(10, 0, now=0).over(50, IDLE | {"idle_since": None}, 0)
    lease = Lease(10, 0, now=0)
    assert not lease.over(50, None, 60)
    assert lease.over(61, None, 60)
    file = tmp_path / "annotations"
    assert _extended_until(str(file)) == 0
    file.write_text('dask-provider/owner="{\\"dag_id\\":\\"a\\"}"\ndask-provider/extended-until="1700000000.5"\nx="1"')
    assert _extended_until(str(file)) == 1700000000.5


def test_a_pod_that_has_to_move_ends_at_once_and_not_well(tmp_path: Path) -> None:
    """Exit code 0 would end the cluster."""
    source = Path(sys.modules[Lease.__module__].__file__ or "").read_text()
    # Told when it first looks, so that it is certainly there.
    heard = "import os, signal\ntime.sleep = lambda seconds: os.kill(os.getpid(), signal.SIGTERM)\n"
    source = source.replace('if __name__ == "__main__":', f'{heard}if __name__ == "__main__":')
    command = [sys.executable, "-c", source, "http://127.0.0.1:9/", "600", "600", str(tmp_path / "annotations")]
    assert subprocess.run(command, timeout=30, check=False).returncode == 128 + signal.SIGTERM
