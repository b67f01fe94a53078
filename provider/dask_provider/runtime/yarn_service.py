"""In the containers of a Dask application on YARN: its scheduler, which also keeps the application, and its workers.

The scheduler's container decides how many workers there are, when the lease is over and when starting workers is
hopeless, and then ends the application and says why. So nobody else has to live for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from .lease import Lease
from .yarn_spec import ADDRESS, DASHBOARD, EXTENDED, NANNY, SETTINGS, STATUS, WANTED, WORKER

if TYPE_CHECKING:
    import skein
    from distributed import Scheduler

#: seconds between looks
EVERY = 0.5
#: seconds that a worker must stay before it counts
SETTLED = 0.5
#: workers that ended in a row, with none there, after which starting them is hopeless
HOPELESS = 3
#: looks in a row at which Dask must want fewer workers before one is retired
PATIENCE = 10
#: how long a worker without its scheduler lives
DEATH_TIMEOUT = "60s"
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit): ")


class Hopeless(RuntimeError):
    """Workers do not start; the message says why."""


def main(role: str) -> int:
    """``scheduler`` or ``worker``: run it until it ends."""
    settings = json.loads(Path(SETTINGS).read_text())
    os.environ.update(settings["env"])  # before Dask reads its configuration
    return _scheduler(settings) if role == "scheduler" else _worker(settings)


def _certificate() -> tuple[str, str]:
    """Where skein has put the application's certificate and key in this container."""
    import skein

    folder = Path(skein.properties.container_dir)
    return str(folder / ".skein.crt"), str(folder / ".skein.pem")


def _worker(settings: dict[str, Any]) -> int:
    import skein

    with skein.ApplicationClient.from_current() as app:
        address = app.kv.wait(ADDRESS).decode()  # the application ends if that never comes
    command = worker_command(settings, address, skein.properties, _certificate() if settings["tls"] else None)
    os.execv(command[0], command)


def worker_command(
    settings: dict[str, Any], address: str, container: Any, certificate: tuple[str, str] | None
) -> list[str]:
    """``dask worker`` for a container.

    :param container: ``container_id`` and ``container_resources`` as skein tells them.
    """
    resources = container.container_resources
    command = [sys.executable, "-m", "dask", "worker", address, "--name", container.container_id, "--no-dashboard"]
    command += ["--nthreads", str(resources.vcores), "--memory-limit", f"{resources.memory - NANNY}MiB"]
    # What it spills belongs to the container, so YARN removes it.
    command += ["--local-directory", os.getcwd(), "--death-timeout", DEATH_TIMEOUT]
    if settings["host"]:
        command += ["--host", settings["host"]]
    if certificate:
        own, key = certificate
        command += ["--protocol", "tls", "--tls-ca-file", own, "--tls-cert", own, "--tls-key", key]
    return command


def _scheduler(settings: dict[str, Any]) -> int:
    import skein

    with skein.ApplicationClient.from_current() as app:
        verdict, why = "FAILED", "the scheduler failed; its container's log says why"
        try:
            verdict, why = asyncio.run(_serve(settings, app))
        finally:
            print(why, flush=True)
            with contextlib.suppress(skein.ConnectionError):  # it ends already, and takes this container along
                app.shutdown(verdict, why)
    return 0 if verdict == "SUCCEEDED" else 1


async def _serve(settings: dict[str, Any], app: skein.ApplicationClient) -> tuple[str, str]:
    """Run scheduler and keeper until one of them ends: the application's verdict and why."""
    from distributed import Scheduler
    from distributed.security import Security

    own, key = _certificate() if settings["tls"] else ("", "")
    tls = {"tls_ca_file": own, "tls_scheduler_cert": own, "tls_scheduler_key": key} if settings["tls"] else {}
    scheduler = Scheduler(
        host=settings["host"],
        port=0,
        protocol="tls" if settings["tls"] else "tcp",
        security=Security(require_encryption=settings["tls"], **tls),
        dashboard_address=f"{settings['host'] or ''}:0",
    )
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    async with scheduler:
        await asyncio.to_thread(_tell_addresses, scheduler, app)
        ends = {
            asyncio.ensure_future(scheduler.finished()): ("SUCCEEDED", "the scheduler was shut down"),
            asyncio.ensure_future(asked.wait()): ("KILLED", "the scheduler's container was ended"),
            (keeping := asyncio.ensure_future(Keeper(scheduler, app, settings).keep())): ("", ""),
        }
        done, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()
        if keeping not in done:
            return ends[done.pop()]
        try:
            return "SUCCEEDED", keeping.result()
        except Hopeless as error:
            return "FAILED", str(error)


def _tell_addresses(scheduler: Scheduler, app: skein.ApplicationClient) -> None:
    # The dashboard first: who waits, waits for the scheduler only.
    if dashboard := scheduler.services.get("dashboard"):
        app.kv[DASHBOARD] = f"http://{urlparse(scheduler.address).hostname}:{dashboard.port}/status".encode()
    app.kv[ADDRESS] = scheduler.address.encode()


class Keeper:
    """The lease and the number of workers of one application."""

    def __init__(self, scheduler: Scheduler, app: skein.ApplicationClient, settings: dict[str, Any]) -> None:
        self._scheduler, self._app = scheduler, app
        self._workers = tuple(settings["workers"])
        self._idle_timeout = settings["idle_timeout"]
        self._lease = Lease(self._idle_timeout, settings["start_timeout"], time.time())
        self._joined_at: dict[str, float] = {}  # by address: a worker that was started again has a new one
        self._was_ready = False
        self._ended_before = 0
        self._too_many = 0
        self._moving: asyncio.Future[None] | None = None
        self._status: dict[str, Any] = {}

    async def keep(self) -> str:
        """Look and adjust until the lease is over: why it is.

        :raises Hopeless: workers do not start.
        """
        import skein

        while True:
            try:
                extended_until = await self._look()
            except skein.ConnectionError:  # the application master is gone: YARN ends this container within moments
                extended_until = 0.0
            if self._lease.over(time.time(), self._seen(), extended_until):
                return f"idle_timeout: nothing to do for {self._idle_timeout:.0f} s"
            await asyncio.sleep(EVERY)

    def _seen(self) -> dict[str, Any] | None:
        """What the lease wants to know; starting counts as work for a while."""
        if not self._was_ready:
            return None
        clients = [name for name in self._scheduler.clients if name != "fire-and-forget"]
        return {"clients": len(clients), "idle_since": self._scheduler.check_idle()}

    async def _look(self) -> float:
        wanted, extended_until, live, ended = await asyncio.to_thread(self._ask)
        low, high = wanted or self._workers
        now = time.monotonic()
        self._joined_at = {address: self._joined_at.get(address, now) for address in self._scheduler.workers}
        settled = sum(now - since >= SETTLED for since in self._joined_at.values())
        self._was_ready = self._was_ready or settled >= low
        if settled:
            self._ended_before = len(ended)
        problem = ""
        if len(ended) > self._ended_before:
            problem = f"{ended[-1].id} ended: {await asyncio.to_thread(_why_ended, ended[-1])}"
        if len(ended) - self._ended_before >= HOPELESS:
            raise Hopeless(f"workers do not start; {problem}")
        await self._adjust(low, high, [container.id for container in live])
        await self._tell({"workers": settled, "problem": problem})
        return extended_until

    def _ask(self) -> tuple[tuple[int, int] | None, float, list[Any], list[Any]]:
        wanted = json.loads(self._app.kv.get(WANTED) or b"null")
        extended_until = json.loads(self._app.kv.get(EXTENDED) or b"0")
        live = self._app.get_containers(services=[WORKER])
        # Those that were not killed: a worker whose process ends well, though nobody asked it to, is no better.
        ended = self._app.get_containers(services=[WORKER], states=["FAILED", "SUCCEEDED"])
        return wanted, extended_until, live, sorted(ended, key=lambda container: str(container.finish_time))

    async def _adjust(self, low: int, high: int, live: list[str]) -> None:
        if self._moving is not None and not self._moving.done():
            return  # data is on its way: who leaves is decided
        target = low
        if high > low:
            target = min(high, max(low, self._scheduler.adaptive_target()))
        surplus = len(live) - target
        self._too_many = self._too_many + 1 if surplus > 0 else 0
        if surplus < 0:
            await asyncio.to_thread(self._app.scale, WORKER, delta=-surplus)
        elif surplus > 0 and (high == low or self._too_many >= PATIENCE):
            self._too_many = 0
            names = leaving(self._scheduler, live, surplus, elastic=high > low)
            self._moving = asyncio.ensure_future(self._retire(names))

    async def _retire(self, names: list[str]) -> None:
        """Let others have the data of these workers, then end their containers."""
        known = {str(worker.name) for worker in self._scheduler.workers.values()}
        if joined := [name for name in names if name in known]:
            gone = await self._scheduler.retire_workers(names=joined, remove=True, close_workers=False)
            names = [name for name in names if name not in joined]
            names += [str(worker["name"]) for worker in gone.values()]
        for name in names:
            try:
                await asyncio.to_thread(self._app.kill_container, name)
            except ValueError:  # it has ended by itself
                continue

    async def _tell(self, status: dict[str, Any]) -> None:
        if status != self._status:
            await asyncio.to_thread(self._app.kv.__setitem__, STATUS, json.dumps(status).encode())
            self._status = status


def leaving(scheduler: Scheduler, live: list[str], count: int, *, elastic: bool) -> list[str]:
    """Which workers can go: those that never joined first, then as the scheduler says.

    :param elastic: nobody has asked for it, so one that works stays.
    """
    by_name = {str(worker.name): worker for worker in scheduler.workers.values()}
    unborn = [name for name in live if name not in by_name][:count]
    count -= len(unborn)
    if not count:
        return unborn
    names = [str(name) for name in scheduler.workers_to_close(n=count, attribute="name")]
    return unborn + [name for name in names if not (elastic and by_name[name].processing)]


def _why_ended(container: Any) -> str:
    """The first error that the worker wrote at its end, or YARN's words."""
    # Its node keeps the log until the application is over.
    log = f"http://{container.yarn_node_http_address}/ws/v1/node/containers/{container.yarn_container_id}/logs"
    try:
        with urllib.request.urlopen(f"{log}/{WORKER}.log?size=-16384", timeout=3) as answer:
            lines = answer.read().decode(errors="replace").splitlines()
    except (OSError, http.client.HTTPException):
        lines = []
    return in_words(lines, str(container.exit_message or ""))


def in_words(log: list[str], exit_message: str) -> str:
    """One line that says why a worker ended.

    :param log: the last lines of its log, errors of Python among them: the first one is the cause of the others.
    """
    errors = [line for line in log if _ERROR.match(line)]
    return " ".join((errors[0] if errors else exit_message).split())[:500] or "it says nothing"
