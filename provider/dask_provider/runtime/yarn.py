"""A Dask cluster as one application on YARN: started, waited for, scaled and ended from a node of the YARN cluster.

Its folder is how it is found again: the certificate that it answers to, and ``application.json``. Who has no folder
finds it by its tags. Nothing of this process is needed afterwards: the scheduler's container keeps the application
(:mod:`.yarn_service`), and the ResourceManager ends it when its lifetime is over.

Needs ``skein`` (it starts a Java process to submit), and ``yarn`` on the PATH.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .dask_side import NotReady
from .records import read_record, write_record
from .yarn_rest import OVER, ResourceManager
from .yarn_spec import (
    ADDRESS,
    ARCHIVE,
    DASHBOARD,
    EXTENDED,
    SCHEDULER,
    SETTINGS,
    STATUS,
    WANTED,
    WORKER,
    YarnSpec,
    check_workers,
)

if TYPE_CHECKING:
    import skein

#: seconds between looks
EVERY = 0.3


@dataclass(frozen=True)
class Application:
    """One that was started.

    :param identity: as YARN calls it, ``application_…``.
    :param folder: what this side needs to talk to it; with a key in it, so nobody else may read it.
    """

    identity: str
    folder: Path

    @property
    def tls(self) -> dict[str, str]:
        """Paths, as :func:`.dask_side.connect` takes them."""
        certificate, key = str(self.folder / "skein.crt"), str(self.folder / "skein.pem")
        return {"ca_file": certificate, "cert_file": certificate, "key_file": key}


@dataclass(frozen=True)
class Ready:
    """Where the cluster is.

    :param scheduler: address for a client.
    :param dashboard: URL of Dask's own pages, or nothing.
    :param tls: paths for a client, or ``None`` when it is not encrypted.
    """

    scheduler: str
    dashboard: str
    tls: dict[str, str] | None


def start(spec: YarnSpec, folder: Path, archive: Path | None = None) -> Application:
    """Submit the application; it is not ready when this returns.

    :param folder: of this application, made here.
    :param archive: the runtime as one file; the one that this code was loaded from, by default.
    :raises NotReady: YARN cannot be reached or refuses; then there is no application.
    """
    import skein

    manager = ResourceManager()
    folder.mkdir(mode=0o700, parents=True)
    made = skein.Security.new_credentials()
    paths = Application("", folder).tls
    for path, kind in ((paths["cert_file"], "cert"), (paths["key_file"], "key")):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made._get_bytes(kind))
    write_record(folder / SETTINGS, spec.settings())
    wanted = spec.application(
        str(archive or _own_archive()), str(folder / SETTINGS), paths["cert_file"], paths["key_file"]
    )
    identity = _submit(wanted, made, folder / "skein-driver.log")
    try:
        manager.end_at(identity, time.time() + spec.max_lifetime)
        application = Application(identity, folder)
        write_record(folder / "started.json", {"identity": identity, "tls": spec.tls})
    except BaseException:  # nobody would know of it, or nobody end it
        manager.kill(identity)
        raise
    return application


def _submit(application: dict[str, Any], security: skein.Security, log: Path) -> str:
    import skein

    try:
        with skein.Client(security=security, log=str(log)) as yarn:
            return str(yarn.submit(skein.ApplicationSpec.from_dict(application)))
    except FileNotFoundError as error:
        raise NotReady(f"skein needs `yarn` on the PATH and Java: {error}") from error
    except (skein.SkeinError, ValueError) as error:
        with contextlib.suppress(OSError):
            lines = log.read_text(errors="replace").strip().splitlines()
            print(*lines[-20:], sep="\n", file=sys.stderr, flush=True)
        raise NotReady(f"YARN does not take the application: {error}") from error


def started(folder: Path) -> Application | None:
    """The application of this folder, or ``None``: it was never submitted."""
    record = read_record(folder / "started.json")
    return None if record is None else Application(record["identity"], folder)


def find(tags: tuple[str, ...]) -> list[str]:
    """Identities of the applications with all of these tags that are not over."""
    return [str(application["id"]) for application in ResourceManager().find(tags)]


def wait_ready(
    application: Application, minimum: int, timeout: float, say: Callable[[str], object] = lambda line: None
) -> Ready:
    """Wait until the scheduler answers and ``minimum`` workers have joined.

    :param say: is told of every change.
    :raises NotReady: it is over or the time is, with the cause as far as YARN tells it.
    """
    manager, said, deadline = ResourceManager(), "", time.monotonic() + timeout
    while True:
        report = manager.application(application.identity)
        if report["state"] in OVER:
            raise NotReady(_why_over(report))
        ready, news = _look(application, report, minimum)
        if ready:
            return ready
        if news != said:
            say(news)
            said = news
        if time.monotonic() > deadline:
            raise NotReady(f"{application.identity} is not ready after {timeout:.0f} s: {news}")
        time.sleep(EVERY)


def _look(application: Application, report: dict[str, Any], minimum: int) -> tuple[Ready | None, str]:
    """The cluster, or what it waits for."""
    import skein

    if report["state"] != "RUNNING":
        told = " ".join(str(report["diagnostics"]).split())
        return None, f"YARN has it {report['state']}" + (f": {told[:500]}" if told else "")
    try:
        with _connected(application, report) as app:
            address, status = app.kv.get(ADDRESS), json.loads(app.kv.get(STATUS) or b"{}")
            joined = status.get("workers", 0)
            if address and status and joined >= minimum:
                tls = application.tls if address.startswith(b"tls") else None
                return Ready(address.decode(), (app.kv.get(DASHBOARD) or b"").decode(), tls), ""
            waiting = app.get_containers(services=[SCHEDULER, WORKER], states=["WAITING", "REQUESTED"])
    except skein.SkeinError as error:  # it is just starting, or ends in this moment: then the next report says why
        return None, str(error)
    news = f"{joined} of {minimum} workers have joined" if address else "the scheduler starts"
    # Workers wait for the scheduler's container first.
    without = sum(bool(address) or container.service_name == SCHEDULER for container in waiting)
    if without:
        memory, vcores = ResourceManager().free()
        news += f", YARN has no container yet for {without} (it has {memory:,} MiB and {vcores} vcores free)"
    return None, news + (f"; {status['problem']}" if status.get("problem") else "")


def _why_over(report: dict[str, Any]) -> str:
    told = " ".join(str(report["diagnostics"]).split())
    return f"{report['id']} is over: {report['state']}, {report['finalStatus']}: {told or 'YARN does not say why'}"


def scale(application: Application, workers: tuple[int, int]) -> None:
    """Another fewest and most; equal for a fixed number. Data of workers that leave goes to others first.

    :raises ValueError: this is no fewest and most.
    :raises NotReady: it does not run.
    """
    check_workers(workers)
    with connect(application) as app:
        app.kv[WANTED] = json.dumps(workers).encode()


def extend(application: Application, seconds: float) -> None:
    """Being idle does not end it before this time is over; the end of its life remains.

    :raises NotReady: it does not run.
    """
    with connect(application) as app:
        app.kv[EXTENDED] = json.dumps(time.time() + seconds).encode()


def connect(application: Application) -> skein.ApplicationClient:
    """Its application master; close it.

    :raises NotReady: it does not run.
    """
    report = ResourceManager().application(application.identity)
    if report["state"] in OVER:
        raise NotReady(_why_over(report))
    if report["state"] != "RUNNING":
        raise NotReady(f"{application.identity} does not run yet: {report['state']}")
    return _connected(application, report)


def _connected(application: Application, report: dict[str, Any]) -> skein.ApplicationClient:
    import skein

    tls = application.tls
    security = skein.Security(cert_file=tls["cert_file"], key_file=tls["key_file"])
    return skein.ApplicationClient(report["amRPCAddress"], application.identity, security)


def kill(identity: str, timeout: float = 30) -> dict[str, Any]:
    """End it and wait for that. Already over is fine.

    :returns: the ResourceManager's last report.
    :raises NotReady: it does not end within ``timeout`` seconds.
    """
    manager, deadline = ResourceManager(), time.monotonic() + timeout
    manager.kill(identity)
    while (report := manager.application(identity))["state"] not in OVER:
        if time.monotonic() > deadline:
            raise NotReady(f"{identity} is still {report['state']} {timeout:.0f} s after it was killed")
        time.sleep(EVERY)
    return report


def _own_archive() -> Path:
    archive = Path(__file__).parents[1]
    if not archive.is_file():
        raise NotReady(f"the runtime was not loaded from {ARCHIVE}: say where that is")
    return archive
