"""Jobs as detached processes of this host: what ``local`` and ``existing`` share.

A job's folder below ``[dask] state_dir`` is its whole state: bundle, output, who follows it (``attempt.json``), its
process (``process.json``), how it ended (``outcome.json``), and how far its output was shown (``shown.json``).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from dask_provider import config
from dask_provider.errors import ClusterGone, InvalidInput, Overtaken, WrongHost
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks.base import TAKEN_OVER, ClusterHook, News, SpecT
from dask_provider.jobs import ARCHIVE, Bundle
from dask_provider.outcomes import Outcome, read_outcome
from dask_provider.owner import Attempt, Owner
from dask_provider.runtime import report
from dask_provider.runtime.processes import alive, kill_session, send_signal, wait_dead
from dask_provider.runtime.records import read_record, write_record

#: seconds that a cancelled job has before it is made to end; its runtime gives the program three
ENOUGH = 8.0
#: bytes of output in one piece of news
CHUNK = 256 * 1024


def this_host() -> str:
    """Name of this machine, as written on records."""
    return socket.gethostname()


def check_host(what: str, host: str) -> None:
    """:raises WrongHost: when the record is another machine's."""
    if host != this_host():
        raise WrongHost(
            f"{what} lives on host {host!r}, this process runs on {this_host()!r}; allowed: one host for all "
            "tasks and the triggerer, as with the LocalExecutor (or set deferrable=False and one worker queue)"
        )


def check_python(field: str, python: str | None) -> None:
    """:raises InvalidInput: when there is no such program on this host."""
    if python and not shutil.which(python):
        raise InvalidInput(field, python, f"a Python interpreter on host {this_host()}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process of this host at a time gets in; a killed one lets go."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def clean_environment() -> dict[str, str]:
    """This process's environment without Airflow's own settings, connections and variables, which hold secrets.

    What Airflow says about the running task (``AIRFLOW_CTX_…``) stays.
    """
    secret = ("AIRFLOW_", "_AIRFLOW", "__AIRFLOW")
    return {k: v for k, v in os.environ.items() if k.startswith("AIRFLOW_CTX_") or not k.startswith(secret)}


def start_detached(record: Path, log: Path, command: list[str], env: Mapping[str, str]) -> None:
    """Start a process that outlives everything here; when this returns its identity is on record.

    :raises RuntimeError: with what it wrote, when it cannot be started.
    """
    launcher = [sys.executable, "-m", "dask_provider.runtime", "detach", str(record), str(log), "--", *command]
    done = subprocess.run(launcher, env=dict(env), capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} cannot be started: {done.stderr.strip()[-500:]}")


def forget_old() -> None:
    """Remove what clusters and jobs that ended more than ``[dask] keep_days`` ago have left in the state folder."""
    state, horizon = Path(config.state_dir()), time.time() - config.keep_days() * 86400
    for pattern, process in (("clusters/*", "keeper.json"), ("jobs/*/*", "process.json"), ("staging/*/*/*", "")):
        for folder in state.glob(pattern):
            with contextlib.suppress(OSError):  # another task may be at it, too
                old = folder.is_dir() and folder.stat().st_mtime < horizon
                if old and not (process and alive(read_record(folder / process))):
                    shutil.rmtree(folder)
    for record in state.glob("existing/*.json"):
        with contextlib.suppress(OSError):
            if record.stat().st_mtime < horizon:
                record.unlink()


class HostHook(ClusterHook[SpecT]):
    """Runs jobs beside a cluster that is reachable from this host."""

    async def _of_job(self, handle: ClusterHandle) -> dict[str, Any]:
        """What ``job.json`` must know of the cluster: scheduler, tls, activity_file, cluster_env.

        :raises ClusterGone: when the cluster has ended.
        """
        raise NotImplementedError

    def _noted(self, handle: ClusterHandle, job: JobHandle, process: dict[str, Any]) -> None:
        """A job was started on the cluster."""

    def _job_folder(self, name: str) -> Path:
        return Path(config.state_dir()) / "jobs" / name

    async def submit(self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt) -> JobHandle:
        try:
            of_job = await self._of_job(handle)
        except ClusterGone:
            of_job = None  # a job that had succeeded before can still be adopted
        job = await asyncio.to_thread(self._submit, handle, bundle, attempt, of_job)
        if job is None:
            await self._of_job(handle)  # says why it is gone
            raise ClusterGone(f"cluster {handle.name} was gone for a moment; try again")
        return job

    def _submit(
        self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt, of_job: dict[str, Any] | None
    ) -> JobHandle | None:
        forget_old()
        home = self._job_folder(bundle.owner.name)
        with locked(home.with_suffix(".lock")):
            for any_old in self._jobs(home, superseded=True):
                check_newest("job", any_old, attempt)
            for old in self._jobs(home):
                if self._can_adopt(old, bundle, attempt):
                    write_attempt(old, attempt)
                    return self._job_handle(old, adopted=True)
                self._end_job(old)
                # Nobody is to find it again: a run that was deleted and made anew counts its tries from 1.
                (old / "superseded").touch()
            if of_job is None:
                return None
            job_id = bundle.job_id(attempt.number)
            folder = home / job_id
            shutil.rmtree(folder, ignore_errors=True)
            for path, content in bundle.files.items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                target.write_bytes(content)
            job_json = bundle.job_json(
                job_id, **{"min_workers": handle.min_workers, "ready_timeout": handle.ready_timeout, **of_job}
            )
            with open(os.open(folder / "job.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(job_json)
            record = {
                "host": this_host(),
                "job_id": job_id,
                "spec_hash": bundle.spec_hash,
                "owner": bundle.owner.labels(),
                "results": bundle.results(job_id),
                "manifest": bundle.manifest(job_id),
            }
            write_attempt(folder, attempt)
            write_record(folder / "record.json", record)
            python = handle.details.get("python") or sys.executable
            command = [python, str(folder / ARCHIVE), "job", str(folder / "job.json")]
            start_detached(folder / "process.json", folder / "output.log", command, clean_environment())
            job = self._job_handle(folder)
            process = read_record(folder / "process.json")
            assert process is not None
            self._noted(handle, job, process)
            return job

    def _jobs(self, home: Path, *, superseded: bool = False) -> list[Path]:
        """Folders of the owner's jobs that count, newest first.

        :param superseded: also those that a later try has ended.
        """
        found = [path.parent for path in home.glob("*/record.json")]
        counted = [folder for folder in found if superseded or not (folder / "superseded").exists()]
        return sorted(counted, key=_number, reverse=True)

    async def would_adopt(self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt) -> bool:
        return await asyncio.to_thread(self._would_adopt, bundle, attempt)

    def _would_adopt(self, bundle: Bundle, attempt: Attempt) -> bool:
        home = self._job_folder(bundle.owner.name)
        with locked(home.with_suffix(".lock")):
            return any(self._can_adopt(job, bundle, attempt) for job in self._jobs(home))

    def _can_adopt(self, folder: Path, bundle: Bundle, attempt: Attempt) -> bool:
        record = read_record(folder / "record.json") or {}
        earlier = not attempt.fresh and _number(folder) >= attempt.since
        if not earlier or record.get("spec_hash") != bundle.spec_hash:
            return False
        if outcome := read_record(folder / "outcome.json"):
            return bool(outcome["state"] == "succeeded")
        return alive(read_record(folder / "process.json")) and not (folder / "ending.json").exists()

    def _end_job(self, folder: Path) -> None:
        """End what may still run of a job, and wait for it."""
        write_record(folder / "ending.json", {})
        process = read_record(folder / "process.json")
        asked = send_signal(process, signal.SIGTERM)
        if asked and process and not wait_dead([process], ENOUGH):
            send_signal(process, signal.SIGKILL)
        program = read_record(folder / "program.json")
        kill_session(program, folder.name)
        if program:
            wait_dead([program], 2)

    def _job_handle(self, folder: Path, *, adopted: bool = False) -> JobHandle:
        record = read_record(folder / "record.json")
        if record is None:
            raise FileNotFoundError(f"there is no job in {folder}")
        number, started = attempt_of(folder)
        return JobHandle(
            place=self.place,
            job_id=record["job_id"],
            location=str(folder),
            attempt=number,
            results=record["results"],
            manifest=record["manifest"],
            adopted=adopted,
            started=started,
        )

    async def find_job(self, handle: ClusterHandle, owner: Owner) -> JobHandle | None:
        return await asyncio.to_thread(self._find_job, self._job_folder(owner.name))

    def _find_job(self, home: Path) -> JobHandle | None:
        # Locked: who looks while the job is just being started waits until it can be seen.
        with locked(home.with_suffix(".lock")):
            jobs = self._jobs(home)
            return self._job_handle(jobs[0]) if jobs else None

    async def cancel(self, job: JobHandle) -> str:
        folder = Path(job.location)
        if (folder / "ending.json").exists():  # nobody adopts it any more; whoever ends it may have the lock for long
            return self._cancel(folder, job)
        return await asyncio.to_thread(self._cancel_locked, folder, job)

    def _cancel_locked(self, folder: Path, job: JobHandle) -> str:
        with locked(folder.parent.with_suffix(".lock")):  # so that nobody adopts it meanwhile
            return self._cancel(folder, job)

    def _cancel(self, folder: Path, job: JobHandle) -> str:
        if attempt_of(folder) != (job.attempt, job.started):
            return TAKEN_OVER
        write_record(folder / "ending.json", {})
        return "cancelled" if send_signal(read_record(folder / "process.json"), signal.SIGTERM) else "already over"

    async def watch(self, job: JobHandle, *, position: int, eager: bool) -> AsyncIterator[News]:
        folder = Path(job.location)
        record = read_record(folder / "record.json")
        if record is None:
            raise FileNotFoundError(f"host {this_host()} has no record of job {job.job_id} in {folder}")
        check_host(f"job {job.job_id}", record["host"])
        shortest, longest = (0.05, 0.2) if eager else (1.0, 10.0)
        pause = shortest
        # Kept here as well: a triggerer that was killed cannot say how far it came.
        position = max(position, (read_record(folder / "shown.json") or {}).get("position", 0))
        while True:
            # In this order: what a process wrote before it ended is then always seen.
            running = alive(read_record(folder / "process.json"))
            outcome = read_record(folder / "outcome.json")
            news = _read_news(folder / "output.log", position)
            if news.lines or news.messages:
                position, pause = news.position, shortest
                yield news
                write_record(folder / "shown.json", {"position": position})
                continue
            if outcome is not None or not running:
                if outcome is None:  # a killed runtime could not end what its program had started
                    await asyncio.to_thread(self._end_job, folder)
                yield News(position=position, outcome=_verdict(outcome))
                return
            await asyncio.sleep(pause)
            pause = min(longest, pause * 1.3)


def _number(folder: Path) -> int:
    """The attempt that started the job."""
    return int(folder.name.rpartition("-")[2])


def write_attempt(folder: Path, attempt: Attempt) -> None:
    """Note the try that has the cluster or job."""
    write_record(folder / "attempt.json", {"attempt": attempt.number, "started": attempt.started})


def attempt_of(folder: Path) -> tuple[int, float]:
    """Number and start of the try that has the cluster or job."""
    written = read_record(folder / "attempt.json") or {}
    return written.get("attempt", 0), written.get("started", 0.0)


def check_newest(what: str, folder: Path, attempt: Attempt) -> None:
    """:raises Overtaken: when cluster or job are a newer try's."""
    number, started = attempt_of(folder)
    if attempt.is_overtaken_by(number, started):
        raise Overtaken(f"{what} {folder.name}", attempt.number, number)


def _verdict(record: dict[str, Any] | None) -> Outcome:
    """The runtime's own record; all that the host knows beside it is whether the process still runs."""
    missing = "the job's runtime ended without an outcome: it was killed, or the host restarted"
    return read_outcome(record, missing=missing)


def _read_news(log: Path, position: int) -> News:
    """Whole lines after ``position``, the job's own and the runtime's messages apart."""
    try:
        with open(log, "rb") as file:
            file.seek(position)
            block = file.read(CHUNK)
    except FileNotFoundError:
        return News(position=position)
    end = block.rfind(b"\n") + 1
    if not end and len(block) == CHUNK:
        end = CHUNK
    lines: list[str] = []
    messages: list[dict[str, Any]] = []
    # Not splitlines: a job that writes \r or a form feed must not be able to speak for the runtime.
    for line in block[:end].decode(errors="replace").removesuffix("\n").split("\n") if end else ():
        message = report.parse(line)
        if message is None:
            lines.append(line)
        else:
            messages.append(message)
    return News(lines, messages, position + end)
