"""Clusters of processes on this host: a keeper process is the lease, its folder the record."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dask_provider import config
from dask_provider.clusters.local import LocalCluster
from dask_provider.errors import ClusterFailed, ClusterGone
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks.base import TAKEN_OVER, Readiness, SpecChanged
from dask_provider.hooks.host import (
    HostHook,
    attempt_of,
    check_host,
    check_newest,
    check_python,
    clean_environment,
    forget_old,
    locked,
    start_detached,
    this_host,
    write_attempt,
)
from dask_provider.owner import Attempt, Owner
from dask_provider.runtime.processes import alive, send_signal, wait_dead
from dask_provider.runtime.records import read_record, write_record

#: seconds that a keeper has to end its cluster before it is made to
ENOUGH = 12.0


class LocalHook(HostHook[LocalCluster]):
    """Speaks to keepers (:mod:`dask_provider.runtime.keeper`) through files in their folders."""

    place = "local"

    def plan(self, spec: LocalCluster, owner: Owner) -> dict[str, Any]:
        record = _record(spec, owner, uid="(new)", now=0) | {"env": sorted(spec.env)}
        return {"folder": str(self._folder(owner.name)), "cluster.json": record}

    async def create(self, spec: LocalCluster, owner: Owner, attempt: Attempt) -> ClusterHandle:
        return await asyncio.to_thread(self._create, spec, owner, attempt)

    def _create(self, spec: LocalCluster, owner: Owner, attempt: Attempt) -> ClusterHandle:
        check_python("LocalCluster.python", spec.python)
        forget_old()
        folder = self._folder(owner.name)
        with locked(folder.with_suffix(".lock")):
            check_newest("cluster", folder, attempt)
            if read_record(folder / "ending.json") or _over(read_record(folder / "status.json")):
                self._end_cluster(folder)
            if alive(read_record(folder / "keeper.json")):
                handle = self._handle(folder)
                check_host(f"cluster {handle.name}", handle.details["host"])
                if handle.spec_hash != spec.hash():
                    raise SpecChanged(f"cluster {handle.name} was made from another spec; delete it first", handle)
                write_attempt(folder, attempt)
                return self._handle(folder)
            self._end_cluster(folder)  # what a killed keeper may have left
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "jobs").mkdir(parents=True, mode=0o700)
            write_record(folder / "cluster.json", _record(spec, owner, uid=uuid.uuid4().hex, now=time.time()))
            write_attempt(folder, attempt)
            (folder / "activity").touch(mode=0o600)
            command = [sys.executable, "-m", "dask_provider.runtime", "keeper", str(folder)]
            start_detached(folder / "keeper.json", folder / "keeper.log", command, clean_environment())
            return self._handle(folder)

    async def wait_ready(self, handle: ClusterHandle) -> AsyncIterator[Readiness]:
        folder = self._own_folder(handle)
        assert handle.created is not None
        deadline = datetime.fromisoformat(handle.created).timestamp() + handle.ready_timeout
        said = None
        while True:
            status = self._check_there(handle)
            # Whose it was: another try may have adopted it.
            handle = replace(self._handle(folder), attempt=handle.attempt, started=handle.started)
            ready = status.get("state") == "ready" and status.get("workers", 0) >= handle.min_workers
            text = f"{status.get('workers', 0)} of {handle.min_workers} workers joined"
            if problem := status.get("problem"):
                text += f"; {problem}"
            if not handle.scheduler_address:
                text = "the scheduler is starting"
            if text != said or ready:
                said = text
                yield Readiness(text, handle, ready)
            if ready:
                return
            if time.time() > deadline:
                raise ClusterFailed(f"cluster {handle.name} is not ready after {handle.ready_timeout:.0f} s: {text}")
            await asyncio.sleep(0.1)

    async def check(self, handle: ClusterHandle) -> None:
        self._check_there(handle)

    async def scale(self, handle: ClusterHandle, low: int, high: int) -> None:
        self._check_there(handle)
        write_record(self._own_folder(handle) / "wanted.json", {"workers": [low, high]})

    async def extend(self, handle: ClusterHandle, seconds: float) -> None:
        with contextlib.suppress(ClusterGone):
            self._check_there(handle)
            lease = self._own_folder(handle) / "lease.json"
            until = (read_record(lease) or {}).get("until", 0.0)  # another task of the block may need it longer
            write_record(lease, {"until": max(until, time.time() + seconds)})

    async def delete(self, handle: ClusterHandle, reason: str, *, compare: bool = False) -> str:
        folder = self._own_folder(handle)
        record = read_record(folder / "cluster.json")
        if record is None:
            return "never existed"
        keeper = read_record(folder / "keeper.json")
        if record["uid"] != handle.uid or not alive(keeper):
            return "already gone"
        if (folder / "ending.json").exists():  # whoever ends it may have the lock for long
            send_signal(keeper, signal.SIGTERM)
            return "deleting"
        return await asyncio.to_thread(self._delete, folder, handle, reason, compare)

    def _delete(self, folder: Path, handle: ClusterHandle, reason: str, compare: bool) -> str:
        with locked(folder.with_suffix(".lock")):  # so that nobody adopts it meanwhile
            keeper = read_record(folder / "keeper.json")
            if (read_record(folder / "cluster.json") or {}).get("uid") != handle.uid or not alive(keeper):
                return "already gone"
            if compare and attempt_of(folder) != (handle.attempt, handle.started):
                return TAKEN_OVER
            write_record(folder / "ending.json", {"reason": reason})
            send_signal(keeper, signal.SIGTERM)
            return "deleting"

    async def wait_gone(self, handle: ClusterHandle, seconds: float) -> bool:
        folder = self._own_folder(handle)
        return await asyncio.to_thread(self._end_this, folder, handle.uid, seconds)

    def _end_this(self, folder: Path, uid: str, seconds: float) -> bool:
        with locked(folder.with_suffix(".lock")):  # so that nobody makes a new one of the name meanwhile
            if (read_record(folder / "cluster.json") or {}).get("uid") != uid:
                return True
            return self._end_cluster(folder, seconds)

    async def find(self, spec: LocalCluster, owner: Owner) -> ClusterHandle | None:
        return await asyncio.to_thread(self._find, self._folder(owner.name))

    def _find(self, folder: Path) -> ClusterHandle | None:
        # Locked: who looks while the cluster is just being made waits until it can be seen.
        with locked(folder.with_suffix(".lock")):
            return self._handle(folder) if (folder / "cluster.json").exists() else None

    async def list(self, spec: LocalCluster, instance: str) -> list[ClusterHandle]:
        folders = [path.parent for path in self._folder("x").parent.glob("*/cluster.json")]
        handles = [self._handle(folder) for folder in sorted(folders) if alive(read_record(folder / "keeper.json"))]
        return [handle for handle in handles if handle.owner["instance"] == instance]

    # --- the folder ---

    def _folder(self, name: str) -> Path:
        return Path(config.state_dir()) / "clusters" / name

    def _own_folder(self, handle: ClusterHandle) -> Path:
        check_host(f"cluster {handle.name}", handle.details["host"])
        return Path(handle.details["folder"])

    def _check_there(self, handle: ClusterHandle) -> dict[str, Any]:
        """The keeper's status.

        :raises ClusterGone: when this very cluster has ended, naming why.
        """
        folder = self._own_folder(handle)
        record = read_record(folder / "cluster.json")
        if record is None or record["uid"] != handle.uid:
            raise ClusterGone(f"cluster {handle.name} is gone: its record was removed or replaced")
        status = read_record(folder / "status.json") or {}
        if _over(status):
            raise ClusterGone(f"cluster {handle.name} is gone; {status.get('reason')}")
        if not alive(read_record(folder / "keeper.json")):
            raise ClusterGone(f"cluster {handle.name} is gone; its keeper was killed, or the host restarted")
        return status

    def _end_cluster(self, folder: Path, seconds: float = ENOUGH) -> bool:
        """End whatever still runs of the cluster, and wait for it."""
        keeper = read_record(folder / "keeper.json")
        send_signal(keeper, signal.SIGTERM)
        if keeper and not wait_dead([keeper], seconds):
            send_signal(keeper, signal.SIGKILL)
        # A keeper that was killed could not end these; on Linux all but the jobs died with it.
        left = (read_record(folder / "children.json") or {}).get("children", [])
        jobs = [job for path in folder.glob("jobs/*.json") if (job := read_record(path))]
        asked = [send_signal(job, signal.SIGTERM) for job in jobs]
        if any(asked):
            wait_dead(jobs, ENOUGH)
        for process in (*left, *jobs):
            send_signal(process, signal.SIGKILL)
        return wait_dead([*left, *jobs], 2)

    def _handle(self, folder: Path) -> ClusterHandle:
        record = read_record(folder / "cluster.json")
        if record is None:
            raise ClusterGone(f"there is no cluster in {folder}")
        number, started = attempt_of(folder)
        status = read_record(folder / "status.json") or {}
        return ClusterHandle(
            place=self.place,
            name=record["name"],
            uid=record["uid"],
            owner=record["owner"],
            spec_hash=record["spec_hash"],
            min_workers=record["min_workers"],
            ready_timeout=record["ready_timeout"],
            scheduler_address=status.get("scheduler_address"),
            dashboard_url=status.get("dashboard_url"),
            created=_iso(record["created"]),
            expires=_iso(record["created"] + record["max_lifetime"]),
            attempt=number,
            started=started,
            details={"host": record["this_host"], "folder": str(folder), "python": record["python"]},
        )

    # --- jobs ---

    async def _of_job(self, handle: ClusterHandle) -> dict[str, Any]:
        self._check_there(handle)
        folder = self._own_folder(handle)
        record = read_record(folder / "cluster.json") or {}
        scaled = read_record(folder / "wanted.json")
        tls = {f"{name}_file": str(folder / "tls" / f"{name}.pem") for name in ("ca", "cert", "key")}
        return {
            "min_workers": min(handle.min_workers, scaled["workers"][0]) if scaled else handle.min_workers,
            "scheduler": handle.scheduler_address,
            "tls": tls if record["tls"] else None,
            "activity_file": str(folder / "activity"),
            "cluster_env": record["env"],
        }

    def _noted(self, handle: ClusterHandle, job: JobHandle, process: dict[str, Any]) -> None:
        write_record(self._own_folder(handle) / "jobs" / f"{job.job_id}.json", process)


def _over(status: dict[str, Any] | None) -> bool:
    """Whether the keeper has begun to end the cluster, or is done with it."""
    return (status or {}).get("state") in ("ending", "gone")


def _record(spec: LocalCluster, owner: Owner, *, uid: str, now: float) -> dict[str, Any]:
    """What the keeper reads. Pure."""
    return {
        "name": owner.name,
        "uid": uid,
        "owner": owner.labels(),
        "spec_hash": spec.hash(),
        "created": now,
        "this_host": this_host(),
        "host": spec.host,
        "python": spec.python or sys.executable,
        "workers": list(spec.worker_range),
        "threads": spec.thread_count,
        "memory": spec.memory_bytes,
        "min_workers": spec.ready_workers,
        "ready_timeout": spec.ready_seconds,
        "idle_timeout": spec.idle_seconds,
        "max_lifetime": spec.lifetime_seconds,
        "env": dict(spec.env),
        "tls": spec.tls,
        "local_directory": spec.local_directory,
    }


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, timezone.utc).isoformat(timespec="seconds")
