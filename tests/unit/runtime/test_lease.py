"""When the lease of a cluster on Kubernetes is over. The real one is tested on a real Kubernetes."""

from __future__ import annotations

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
