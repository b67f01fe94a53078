"""What is not Dataproc's: settings, faults, preemptions, counts of calls. Below ``/admin/``, for tests."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.servers.dataproc import building, instances, lifecycle
from tests.servers.dataproc.errors import ApiError, failed_precondition, invalid, not_found
from tests.servers.dataproc.faults import KINDS
from tests.servers.dataproc.world import ClusterEntry, World

Answer = Callable[[World, web.Request, dict[str, Any]], Awaitable[Any]]


def add_admin(app: web.Application, world: World) -> None:
    """:param app: gets the routes."""

    def handler(function: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                text = await request.text()
                return web.json_response(await function(world, request, json.loads(text) if text else {}))
            except ApiError as error:
                return web.json_response(error.answer(), status=error.http_status)
            except (ValueError, TypeError) as error:
                return web.json_response(invalid(str(error)).answer(), status=400)

        return handle

    for verb, path, function in (
        ("GET", "/admin/health", _health),
        ("GET", "/admin/alive", _alive),
        ("GET", "/admin/settings", _settings),
        ("PATCH", "/admin/settings", _change_settings),
        ("GET", "/admin/faults", _faults),
        ("POST", "/admin/faults", _add_fault),
        ("DELETE", "/admin/faults", _remove_faults),
        ("DELETE", "/admin/faults/{number}", _remove_faults),
        ("GET", "/admin/calls", _calls),
        ("DELETE", "/admin/calls", _forget_calls),
        ("POST", "/admin/preempt", _preempt),
        ("POST", "/admin/reset", _reset),
    ):
        app.router.add_route(verb, path, handler(function))


async def reset(world: World) -> None:
    """End and forget everything."""
    await world.end(*(key for key in list(world.tasks) if key != lifecycle.TASK))
    entries = [node.name for cluster in world.clusters.values() for node in instances.nodes(cluster)]
    await asyncio.gather(*(world.nodes.stop(name) for name in entries))
    world.forget()


async def _health(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    return {"clusters": len(world.clusters), "jobs": len(world.jobs)}


async def _alive(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    """Who may have nodes, by name, and drivers, by the uuid of the job."""
    return {
        "nodes": [node.name for cluster in world.clusters.values() for node in instances.nodes(cluster)],
        "jobs": [job.message.job_uuid for job in world.jobs.values() if job.active],
    }


async def _settings(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    return dataclasses.asdict(world.settings)


async def _change_settings(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    world.save_settings(world.settings.changed(body))
    return dataclasses.asdict(world.settings)


async def _faults(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    return {"faults": world.faults.described(), "kinds": KINDS}


async def _add_fault(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    return dataclasses.asdict(world.faults.add(body))


async def _remove_faults(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    number = request.match_info.get("number")
    world.faults.remove(int(number) if number else None)
    return {}


async def _calls(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    return dict(world.calls)


async def _forget_calls(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    world.calls.clear()
    return {}


async def _preempt(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    """Take a secondary worker away. Its managed instance group makes it anew, unless ``recreate`` is false."""
    name, recreate = str(body.get("instance", "")), bool(body.get("recreate", True))
    for entry in world.clusters.values():
        for node in instances.nodes(entry):
            if node.name == name:
                if not node.preemptible:
                    raise failed_precondition(f"Instance {name} is not preemptible.")
                await world.nodes.stop(name)
                if recreate:
                    world.begin(building.recreation(name), _recreate(world, entry, name))
                return {}
    raise not_found("Instance", name)


async def _recreate(world: World, entry: ClusterEntry, name: str) -> None:
    wanted = [node for node in instances.nodes(entry) if node.name == name]
    try:
        await building.start(world, entry, wanted, "clusters.update")
    except ApiError as error:
        print(f"{name} could not be made anew: {error}", flush=True)


async def _reset(world: World, request: web.Request, body: dict[str, Any]) -> Any:
    await reset(world)
    return {}
