"""A cluster that somebody else runs: checked and used, never deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dask_provider import config
from dask_provider.clusters.existing import ExistingCluster
from dask_provider.errors import ClusterFailed
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.base import NOT_OURS, Readiness
from dask_provider.hooks.host import HostHook, check_python, this_host
from dask_provider.owner import Attempt, Owner
from dask_provider.runtime.records import read_record, write_record


class ExistingHook(HostHook[ExistingCluster]):
    """Finds the scheduler; the job's runtime, which speaks Dask anyway, checks workers and versions."""

    place = "existing"

    def plan(self, spec: ExistingCluster, owner: Owner) -> dict[str, Any]:
        return {"use": spec.address or f"connection {spec.conn_id}", "min_workers": spec.ready_workers}

    async def create(self, spec: ExistingCluster, owner: Owner, attempt: Attempt) -> ClusterHandle:
        check_python("ExistingCluster.python", spec.python)
        found = await _resolve(spec.address, spec.conn_id)
        record = self._record(owner.name)
        record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_record(record, {"env": dict(spec.env)})  # may hold secrets, so not in the handle
        return ClusterHandle(
            place=self.place,
            name=owner.name,
            uid=found["address"],
            owner=owner.labels(),
            spec_hash=spec.hash(),
            min_workers=spec.ready_workers,
            ready_timeout=spec.ready_seconds,
            scheduler_address=found["address"],
            dashboard_url=spec.dashboard_url or found["dashboard_url"],
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            attempt=attempt.number,
            started=attempt.started,
            details={"host": this_host(), "conn_id": spec.conn_id, "python": spec.python},
        )

    async def wait_ready(self, handle: ClusterHandle) -> AsyncIterator[Readiness]:
        address = str(handle.scheduler_address)
        host, _, port = address.partition("://")[2].rpartition(":")
        assert handle.created is not None
        deadline = datetime.fromisoformat(handle.created).timestamp() + handle.ready_timeout
        pause = 0.2
        while True:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), timeout=5)
                writer.close()
                yield Readiness(f"the scheduler at {address} can be reached", handle, ready=True)
                return
            except (OSError, asyncio.TimeoutError) as error:
                text = f"the scheduler at {address} cannot be reached: {error or 'no answer within 5 s'}"
            if datetime.now(timezone.utc).timestamp() > deadline:
                raise ClusterFailed(text)
            yield Readiness(text, handle)
            await asyncio.sleep(pause)
            pause = min(10.0, pause * 2)

    async def check(self, handle: ClusterHandle) -> None:
        """Nothing: only whoever runs the cluster knows whether it ended, and why."""

    async def scale(self, handle: ClusterHandle, low: int, high: int) -> None:
        raise ClusterFailed(f"{handle.scheduler_address} is not ours to scale; allowed: places that we create")

    async def extend(self, handle: ClusterHandle, seconds: float) -> None:
        """Nothing to do: there is no lease."""

    async def delete(self, handle: ClusterHandle, reason: str, *, compare: bool = False) -> str:
        return NOT_OURS

    async def wait_gone(self, handle: ClusterHandle, seconds: float) -> bool:
        return True

    async def find(self, spec: ExistingCluster, owner: Owner) -> ClusterHandle | None:
        # Enough to find its jobs by; the address, for which a connection may have to be asked, is not needed for that.
        details = {"host": this_host(), "conn_id": spec.conn_id, "python": spec.python}
        return ClusterHandle(self.place, owner.name, spec.address or "", owner.labels(), details=details)

    async def list(self, spec: ExistingCluster, instance: str) -> list[ClusterHandle]:
        return []

    async def _of_job(self, handle: ClusterHandle) -> dict[str, Any]:
        found = await _resolve(handle.scheduler_address, handle.details.get("conn_id"))
        env = (read_record(self._record(handle.name)) or {"env": {}})["env"]
        return {
            "scheduler": handle.scheduler_address,
            "tls": found["tls"],
            "activity_file": None,
            "cluster_env": env,
        }

    def _record(self, name: str) -> Path:
        return Path(config.state_dir()) / "existing" / f"{name}.json"


async def _resolve(address: str | None, conn_id: str | None) -> dict[str, Any]:
    """Address, dashboard and TLS files; a connection is read outside the event loop, which it would block."""
    if conn_id is None:
        return {"address": address, "dashboard_url": None, "tls": None}
    from asgiref.sync import sync_to_async

    from dask_provider.hooks.connection import DaskConnectionHook

    found: dict[str, Any] = await sync_to_async(DaskConnectionHook(conn_id).get_conn)()
    return found
