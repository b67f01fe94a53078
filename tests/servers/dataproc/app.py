"""The API as one aiohttp application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.servers.dataproc import clusters, instances, jobs, lifecycle, messages, operations, policies, repairs
from tests.servers.dataproc.admin import add_admin
from tests.servers.dataproc.call import Call
from tests.servers.dataproc.errors import ApiError, invalid
from tests.servers.dataproc.filters import page
from tests.servers.dataproc.messages import ClusterStatus
from tests.servers.dataproc.neighbours import add_neighbours, check_enabled
from tests.servers.dataproc.nodes import Nodes
from tests.servers.dataproc.objects import Objects
from tests.servers.dataproc.world import World

Method = Callable[[World, Call], Awaitable[dict[str, Any]]]

_NO_TOKEN = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
_LIST = ("filter", "pageSize", "pageToken")
# Parameters that every Google API takes.
_COMMON = {"$alt", "alt", "$.xgafv", "access_token", "callback", "fields", "key", "oauth_token", "prettyPrint"}
_COMMON |= {"quotaUser", "upload_protocol", "uploadType", "$prettyPrint"}


def make_app(folder: Path, gcs_url: str, make_nodes: Callable[[Path, str], Nodes]) -> web.Application:
    """:param folder: of the state; what an emulator left there before is taken up again."""
    app = web.Application(client_max_size=16 << 20)

    async def running(app: web.Application) -> AsyncIterator[None]:
        async with Objects(gcs_url) as objects:
            (folder / "nodes").mkdir(parents=True, exist_ok=True)
            world = World(folder, make_nodes(folder / "nodes", gcs_url), objects)
            _add_routes(app, world)
            add_neighbours(app, world, gcs_url)
            await _take_up(world)
            world.begin(lifecycle.TASK, lifecycle.watch(world))
            yield
            await world.end(*world.tasks)
            await asyncio.gather(
                *(world.nodes.stop(node.name) for each in world.clusters.values() for node in instances.nodes(each))
            )
            world.store.close()

    app.cleanup_ctx.append(running)
    return app


def _add_routes(app: web.Application, world: World) -> None:
    add_admin(app, world)
    regions = "/v1/projects/{project}/regions/{region}"
    anywhere = "/v1/projects/{project}/{place:regions|locations}/{region}"
    name = "{name:[^/:]+}"
    for verb, path, method, function, parameters in (
        ("POST", f"{regions}/clusters", "clusters.create", clusters.create, ("requestId",)),
        ("GET", f"{regions}/clusters", "clusters.list", clusters.listed, _LIST),
        ("GET", f"{regions}/clusters/{name}", "clusters.get", clusters.get, ()),
        ("DELETE", f"{regions}/clusters/{name}", "clusters.delete", clusters.delete, ("requestId", "clusterUuid")),
        (
            *("PATCH", f"{regions}/clusters/{name}", "clusters.update", clusters.update),
            ("updateMask", "gracefulDecommissionTimeout", "requestId"),
        ),
        ("POST", f"{regions}/clusters/{name}:stop", "clusters.stop", clusters.stop, ()),
        ("POST", f"{regions}/clusters/{name}:start", "clusters.start", clusters.start, ()),
        ("POST", f"{regions}/clusters/{name}:repair", "clusters.repair", repairs.repair, ()),
        ("POST", f"{regions}/clusters/{name}:diagnose", "clusters.diagnose", clusters.diagnose, ()),
        ("POST", f"{regions}/jobs:submit", "jobs.submit", jobs.submit, ()),
        ("POST", f"{regions}/jobs:submitAsOperation", "jobs.submitAsOperation", jobs.submit_as_operation, ()),
        ("GET", f"{regions}/jobs", "jobs.list", jobs.listed, (*_LIST, "clusterName", "jobStateMatcher")),
        ("GET", f"{regions}/jobs/{name}", "jobs.get", jobs.get, ()),
        ("PATCH", f"{regions}/jobs/{name}", "jobs.update", jobs.update, ("updateMask",)),
        ("POST", f"{regions}/jobs/{name}:cancel", "jobs.cancel", jobs.cancel, ()),
        ("DELETE", f"{regions}/jobs/{name}", "jobs.delete", jobs.delete, ()),
        ("GET", f"{anywhere}/operations", "operations.list", _list_operations, (*_LIST, "returnPartialSuccess")),
        ("GET", f"{anywhere}/operations/{name}", "operations.get", _get_operation, ()),
        ("POST", f"{anywhere}/operations/{name}:cancel", "operations.cancel", _cancel_operation, ()),
        ("DELETE", f"{anywhere}/operations/{name}", "operations.delete", _delete_operation, ()),
        ("POST", f"{anywhere}/autoscalingPolicies", "autoscalingPolicies.create", policies.create, ()),
        ("GET", f"{anywhere}/autoscalingPolicies", "autoscalingPolicies.list", policies.listed, _LIST[1:]),
        ("GET", f"{anywhere}/autoscalingPolicies/{name}", "autoscalingPolicies.get", policies.get, ()),
        ("PUT", f"{anywhere}/autoscalingPolicies/{name}", "autoscalingPolicies.update", policies.update, ()),
        ("DELETE", f"{anywhere}/autoscalingPolicies/{name}", "autoscalingPolicies.delete", policies.delete, ()),
    ):
        app.router.add_route(verb, path, _handler(world, method, function, set(parameters)))


def _handler(
    world: World, method: str, function: Method, parameters: set[str]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        world.calls[method] += 1
        target = ""
        try:
            if world.settings.token and request.headers.get("Authorization") != f"Bearer {world.settings.token}":
                raise ApiError("UNAUTHENTICATED", _NO_TOKEN)
            call = await _call(request, method, parameters)
            # What a request is about may stand in its body only: a fault may name it all the same.
            target = call.name or _named(call)
            check_enabled(world, "dataproc.googleapis.com")
            if fault := world.faults.strike("refuse", method, target):
                raise fault.error(call.resource.rstrip("/"))
            _check_project(world, call)
            answer, status = await function(world, call), 200
        except ApiError as error:
            answer, status = error.answer(), error.http_status
        if status == 200 and world.faults.strike("lose_answer", method, target) and request.transport:
            request.transport.abort()
        return web.json_response(answer, status=status)

    return handle


async def _call(request: web.Request, method: str, parameters: set[str]) -> Call:
    query = {_camel(key): value for key, value in request.query.items()}
    if unknown := set(query) - parameters - _COMMON:
        name = min(unknown)
        raise invalid(f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.')
    path = request.match_info
    return Call(
        method=method,
        project=path["project"],
        region=path["region"],
        place=path.get("place", "regions"),
        name=path.get("name", ""),
        query=query,
        body=await request.read(),
        number_enums="enum-encoding=int" in query.get("$alt", ""),
    )


def _camel(name: str) -> str:
    """Google takes a parameter's name in both forms."""
    return re.sub(r"_([a-z])", lambda letter: letter[1].upper(), name)


def _named(call: Call) -> str:
    body = call.json() if call.body else {}
    job = body.get("job") if isinstance(body.get("job"), dict) else {}
    reference = (job or {}).get("reference") or {}
    return str(body.get("clusterName") or body.get("id") or reference.get("jobId") or "")


def _check_project(world: World, call: Call) -> None:
    known = world.settings.projects
    if known and call.project not in known:
        raise ApiError("PERMISSION_DENIED", f"Permission denied on resource project {call.project}.")


async def _list_operations(world: World, call: Call) -> dict[str, Any]:
    found = operations.listed(world, f"projects/{call.project}/regions/{call.region}", call.query.get("filter", ""))
    shown, following = page(found, call.query.get("pageSize", ""), call.query.get("pageToken", ""))
    answer = {"operations": [operations.shown(each) for each in shown]} if shown else {}
    return answer | ({"nextPageToken": following} if following else {})


async def _get_operation(world: World, call: Call) -> dict[str, Any]:
    return operations.shown(operations.get(world, call.resource))


async def _cancel_operation(world: World, call: Call) -> dict[str, Any]:
    await operations.cancel(world, call.resource)
    return {}


async def _delete_operation(world: World, call: Call) -> dict[str, Any]:
    operations.delete(world, call.resource)
    return {}


async def _take_up(world: World) -> None:
    """After a restart: what is left of the nodes and jobs that were there."""
    for entry in list(world.clusters.values()):
        if entry.state not in ("RUNNING", "ERROR_DUE_TO_UPDATE"):
            continue
        lost = [node for node in instances.nodes(entry) if not await world.nodes.alive(node.name)]
        # Preemptible ones may be away at any time.
        if names := [node.name for node in lost if not node.preemptible]:
            messages.enter(entry.message, ClusterStatus, "ERROR", detail=f"Lost while nobody watched: {names}.")
            entry.idle_since = None
            await jobs.abandon(world, entry, f"Lost with its cluster: {names}.")
            world.save_cluster(entry)
    operations.resume(world)
    jobs.resume(world)
