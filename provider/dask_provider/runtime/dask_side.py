"""What the runtime asks the scheduler: readiness, versions, progress, a performance report."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

#: the packages whose versions must be the same everywhere, or messages between processes are misread
CHECKED = ("dask", "distributed")


class NotReady(RuntimeError):
    """The cluster cannot run the job; the message says why."""


async def connect(address: str, tls: dict[str, str] | None, min_workers: int, timeout: float) -> Client:
    """A client of the scheduler once the minimum of workers has joined.

    :param tls: paths ``ca_file``, ``cert_file``, ``key_file``.
    :param timeout: seconds for all of it.
    :raises NotReady: naming what is missing.
    """
    from distributed import Client
    from distributed.security import Security

    security = None
    if tls:
        security = Security(
            require_encryption=True,
            tls_ca_file=tls["ca_file"],
            tls_client_cert=tls["cert_file"],
            tls_client_key=tls["key_file"],
        )
    try:
        client = await Client(address, asynchronous=True, security=security, timeout=timeout, set_as_default=False)
    except (OSError, asyncio.TimeoutError, ValueError) as error:
        raise NotReady(f"the scheduler at {address} does not answer: {error or type(error).__name__}") from error
    try:
        if min_workers:
            await client.wait_for_workers(min_workers, timeout=timeout)
    except asyncio.TimeoutError as error:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(), timeout=3)
        raise NotReady(f"not enough workers joined within {timeout:.0f} s: {error}") from error
    return client


async def check_versions(client: Client) -> None:
    """Compare job, scheduler and workers.

    :raises NotReady: with every difference; tasks would fail to unpickle, or worse, otherwise.
    """
    versions = await client.get_versions(check=False)
    ours = _checked(versions["client"])
    others = {"the scheduler": versions["scheduler"]}
    others.update({f"worker {address}": of_worker for address, of_worker in versions["workers"].items()})
    wrong: dict[str, list[str]] = {}
    for who, theirs in others.items():
        for package, version in _checked(theirs).items():
            if version and ours[package] and version != ours[package]:
                wrong.setdefault(f"{package} {version} (the job has {ours[package]})", []).append(who)
    if wrong:
        lines = [
            f"{what} on {who[0]}{f' and {len(who) - 1} more' if len(who) > 1 else ''}" for what, who in wrong.items()
        ]
        raise NotReady(f"versions differ: {'; '.join(lines)}; allowed: the same Python x.y, dask and distributed")


def _checked(described: dict[str, Any]) -> dict[str, str | None]:
    packages = dict(described.get("packages") or {})
    python = str(dict(described.get("host") or {}).get("python") or packages.get("python") or "")
    checked = {"Python": ".".join(python.split(".")[:2]) or None}
    return checked | {name: packages.get(name) for name in CHECKED}


async def progress(client: Client) -> dict[str, Any]:
    """Counts of the whole cluster now: tasks done and known, erred, bytes in memory; names of workers by their ids.

    A worker that its nanny starts again keeps name and perhaps address, but gets another id. So does a scheduler.
    """

    # Nested, so that it is pickled by value: the scheduler has no copy of this module.
    def count(dask_scheduler: Any) -> dict[str, Any]:
        open_states = ("waiting", "processing", "queued", "no-worker")
        done = sum(prefix.state_counts["memory"] for prefix in dask_scheduler.task_prefixes.values())
        tasks = dask_scheduler.tasks.values()
        return {
            "scheduler": dask_scheduler.id,
            "done": done,
            "total": done + sum(1 for task in tasks if task.state in open_states),
            "erred": sum(1 for task in tasks if task.state == "erred"),
            "workers": {worker.server_id: str(worker.name) for worker in dask_scheduler.workers.values()},
            "memory": sum(worker.metrics.get("memory", 0) for worker in dask_scheduler.workers.values()),
        }

    return dict(await asyncio.wait_for(client.run_on_scheduler(count), timeout=10))


async def spread(client: Client, paths: list[str]) -> None:
    """Make Python files importable on every worker."""
    for path in paths:
        await client.upload_file(path)


@contextlib.asynccontextmanager
async def performance_report(client: Client, path: str | None, stop: asyncio.Event) -> AsyncIterator[None]:
    """Record what the cluster does meanwhile as one HTML page, unless ``stop`` is set; never a reason to fail."""
    report = None
    with contextlib.suppress(Exception):
        import bokeh  # noqa: F401
        from distributed import performance_report as recorded

        if path is not None:
            report = recorded(filename=path)
            with client.as_current():
                await report.__aenter__()
    yield
    if report is not None and path is not None and not stop.is_set():
        with contextlib.suppress(Exception), client.as_current():
            await asyncio.wait_for(report.__aexit__(None, None, None), timeout=20)
            os.chmod(path, 0o600)
