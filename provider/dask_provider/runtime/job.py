"""Runs one job beside its cluster: wait, check, start, watch, report, record.

``job.json`` (made by ``dask_provider.jobs``) says what; the outcome goes to ``outcome.json`` beside it and, as the
last message, into the output.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .dask_side import NotReady, check_versions, connect, performance_report, progress, spread
from .fetch import fetch
from .manifest import build_manifest, check_file_system, write_manifest
from .processes import identity
from .program import Program, command_line
from .records import read_record, write_record
from .report import emit

#: seconds without an answer after which the job counts as lost: of a scheduler that has hung up, and of one that may
#: only be busy with a large graph
LOST_AFTER, SILENT_FOR = 15.0, 300.0
#: seconds between looks at the scheduler
LOOK_EVERY = 1.0
#: where Kubernetes takes a container's last words from; nowhere else is there such a file
LAST_WORDS = "/dev/termination-log"
#: seconds that a program has to end by itself when it is cancelled
GRACE = 3.0


def main(arguments: list[str]) -> int:
    """``job JOB.JSON [FOLDER]``: exit status 0 only when the program succeeded and all it wrote is on record.

    :param arguments: with a folder the bundle is copied there first: where it lies nothing can be written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # whatever the locale says
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    path = placed(arguments)
    job = json.loads(path.read_text())
    outcome: dict[str, Any] = {"started": _now()}
    try:
        outcome |= asyncio.run(_Run(job, path.parent).run())
    except NotReady as error:
        outcome |= {"state": "failed", "reason": str(error)}
    except Exception as error:  # noqa: BLE001  whatever happens here must be on record
        import traceback

        traceback.print_exc()
        outcome |= {"state": "failed", "reason": f"the job runtime failed: {type(error).__name__}: {error}"}
    return finish(path.parent, outcome)


def placed(arguments: list[str]) -> Path:
    """Where ``JOB.JSON [FOLDER]`` is, once the bundle is where it may be written."""
    path = Path(arguments[0]).absolute()
    if len(arguments) > 1:
        shutil.copytree(path.parent, arguments[1], dirs_exist_ok=True, ignore=shutil.ignore_patterns("..*"))
        path = Path(arguments[1]).absolute() / path.name
    return path


def finish(folder: Path, outcome: dict[str, Any]) -> int:
    """Put the outcome on record; the exit status that says the same."""
    outcome["finished"] = _now()
    emit("outcome", **outcome)  # before the record, which ends every wait
    write_record(folder / "outcome.json", outcome)
    _leave_last_words(outcome)
    return 0 if outcome["state"] == "succeeded" else outcome.get("exit_code") or 1


def _leave_last_words(outcome: dict[str, Any]) -> None:
    """On Kubernetes also in the pod's own status, which is there when its log is not. The limit is 4,096 bytes."""
    brief = {name: value for name, value in outcome.items() if name not in ("tail", "result")}
    text = json.dumps(brief | {"reason": str(outcome.get("reason", ""))[:500]})
    with contextlib.suppress(OSError), open(os.open(LAST_WORDS, os.O_WRONLY), "w") as file:
        file.write(text[:4096])


class _Run:
    def __init__(self, job: dict[str, Any], folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._stop = asyncio.Event()
        self._stop_reason: tuple[str, str] = ("cancelled", "cancelled")
        self._seen: dict[str, Any] = {}
        self._scheduler = ""
        self._done_before = 0
        self._lost_workers = 0

    async def run(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, "cancelled", f"cancelled ({number.name})")
        job = self._job
        wanted, here = job.get("pickled_with"), f"{sys.version_info[0]}.{sys.version_info[1]}"
        if wanted and wanted != here:
            raise NotReady(
                f"the function was pickled by Python {wanted}, the job runs on Python {here}; allowed: the same"
            )
        awake = asyncio.ensure_future(self._stay_awake())
        try:
            return await self._run()
        finally:
            awake.cancel()

    async def _run(self) -> dict[str, Any]:
        job = self._job
        emit("waiting", scheduler=job["scheduler"], workers=job["min_workers"])
        modules = [str(self._folder / name) for name in job["py_files"]]
        prepared = asyncio.ensure_future(self._prepare(modules))
        await _first_of(prepared, self._stop)
        if self._stop.is_set():
            prepared.cancel()
            return self._stopped()
        client = prepared.result()
        report = str(self._folder / "performance-report.html") if job.get("performance_report") else None
        async with performance_report(client, report, self._stop):
            outcome = await self._follow(client, modules)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(), timeout=3)
        if report and os.path.exists(report):
            outcome["report"] = report
        return outcome

    async def _prepare(self, modules: list[str]) -> Any:
        job = self._job
        check_file_system(job["results"])  # before hours of work that nobody could keep
        await asyncio.to_thread(fetch, job.get("fetch", {}), self._folder)
        client = await connect(job["scheduler"], job.get("tls"), job["min_workers"], job["ready_timeout"])
        await check_versions(client)
        await spread(client, modules)
        return client

    async def _follow(self, client: Any, modules: list[str]) -> dict[str, Any]:
        command = command_line(self._job["program"], self._folder)
        work = self._folder / "work"
        work.mkdir(exist_ok=True)
        if self._job["results"].startswith(("file://", "/")):
            Path(self._job["results"].removeprefix("file://")).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Exception):
            before = await progress(client)
            self._scheduler, self._done_before = before["scheduler"], before["done"]
        program = await Program.start(command, self._environment(modules), work)
        try:
            return await self._watch(client, program, command)
        except BaseException:
            await program.end(GRACE)
            raise

    async def _watch(self, client: Any, program: Program, command: list[str]) -> dict[str, Any]:
        write_record(self._folder / "program.json", identity(program.pid))
        emit("started", pid=program.pid, command=command)
        looking = asyncio.ensure_future(self._look(client))
        ended = asyncio.ensure_future(program.wait())
        await _first_of(ended, self._stop)
        stopped = not ended.done()
        if stopped:
            await program.end(GRACE)
        code = await ended
        looking.cancel()
        outcome = program.verdict(code)
        if stopped:  # and somebody waits for the end: what it wrote is not looked at
            return outcome | self._stopped() | {"tail": list(program.tail)[-20:]}
        try:  # so that the last count is that of the whole job, and the root of a failure is known
            await asyncio.wait_for(self._count(client), timeout=2)
        except Exception:  # noqa: BLE001  any failure to answer counts the same
            if client.status != "running":
                self._end("lost", "the scheduler no longer answers")
        if code and self._stop.is_set() and self._stop_reason[0] == "lost":
            state, reason = self._stop_reason
            outcome |= {"state": state, "reason": f"{reason}; the program ended with {outcome['reason']}"}
        outcome["dask"] = {"tasks": self._seen.get("done"), "workers_lost": self._lost_workers}
        outcome["tail"] = list(program.tail)[-20:] if outcome["state"] != "succeeded" else []
        return await asyncio.to_thread(self._record_results, outcome)

    def _record_results(self, outcome: dict[str, Any]) -> dict[str, Any]:
        answer = read_record(self._folder / "result.json")
        if answer is not None:
            outcome["result"] = answer
        manifest = build_manifest(self._job["job_id"], self._job["results"])
        write_manifest(self._job["manifest"], manifest)
        rows = [entry["rows"] for entry in manifest["files"] if entry["rows"] is not None]
        outcome["manifest"] = {
            "uri": self._job["manifest"],
            "files": len(manifest["files"]),
            "bytes": manifest["bytes"],
            "rows": sum(rows) if rows else None,
        }
        return outcome

    async def _look(self, client: Any) -> None:
        """Report progress and lost workers, and give up on a scheduler that is gone."""
        answered = time.monotonic()
        while True:
            try:
                await self._count(client)
                answered = time.monotonic()
            except Exception as error:  # noqa: BLE001  any failure to answer counts the same
                patience = SILENT_FOR if client.status == "running" else LOST_AFTER
                if time.monotonic() - answered > patience:
                    self._end("lost", f"the scheduler no longer answers: {type(error).__name__}: {error}")
                    return
            await asyncio.sleep(LOOK_EVERY)

    async def _count(self, client: Any) -> None:
        now = await progress(client)
        scheduler = now.pop("scheduler")
        self._scheduler = self._scheduler or scheduler
        if scheduler != self._scheduler:
            self._end("lost", "the scheduler was started anew: all that it held is gone")
            return
        now |= {name: now[name] - self._done_before for name in ("done", "total")}
        gone = [name for identity, name in self._seen.get("workers", {}).items() if identity not in now["workers"]]
        self._lost_workers += len(gone)
        for name in sorted(gone):
            emit("worker_lost", worker=name, left=len(now["workers"]))
        if now != self._seen:
            emit("progress", **{**now, "workers": len(now["workers"])})
        self._seen = now

    async def _stay_awake(self) -> None:
        """Tell the lease that a job is there, whatever it does: waiting, working, reading what it wrote."""
        while path := self._job.get("activity_file"):
            with contextlib.suppress(OSError):
                os.utime(path)
            await asyncio.sleep(LOOK_EVERY)

    def _stopped(self) -> dict[str, Any]:
        return {"state": self._stop_reason[0], "reason": self._stop_reason[1]}

    def _end(self, state: str, reason: str) -> None:
        if not self._stop.is_set():
            self._stop_reason = (state, reason)
            self._stop.set()

    def _environment(self, modules: list[str]) -> dict[str, str]:
        job = self._job
        env = {**os.environ, **job["env"]}
        env["PYTHONUNBUFFERED"] = "1"
        env["PYTHONPATH"] = os.pathsep.join(
            [*modules_path(modules), str(self._folder), *filter(None, [env.get("PYTHONPATH")])]
        )
        env["DASK_SCHEDULER_ADDRESS"] = job["scheduler"]
        env["DASK_JOB_ID"] = job["job_id"]
        env["DASK_JOB_RESULTS"] = job["results"].removeprefix("file://")  # so that open() works too
        if tls := job.get("tls"):
            prefix = "DASK_DISTRIBUTED__COMM__TLS__"
            env[prefix + "CA_FILE"] = tls["ca_file"]
            env[prefix + "CLIENT__CERT"], env[prefix + "CLIENT__KEY"] = tls["cert_file"], tls["key_file"]
            env["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] = "True"
        return env


def modules_path(modules: list[str]) -> list[str]:
    """Entries of the import path: archives themselves, the folders of plain files."""
    return list(dict.fromkeys(os.path.dirname(m) if m.endswith(".py") else m for m in modules))


async def _first_of(future: asyncio.Future[Any], stop: asyncio.Event) -> None:
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([future, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
