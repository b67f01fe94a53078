"""The work of operations on clusters. Each may be done a second time: a restart begins anew what it interrupted."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Iterable
from typing import Any

from tests.servers.dataproc import instances, jobs, messages, operations
from tests.servers.dataproc.errors import ApiError
from tests.servers.dataproc.messages import Cluster, ClusterStatus, DiagnoseResults
from tests.servers.dataproc.nodes import ActionResult, Node
from tests.servers.dataproc.operations import work
from tests.servers.dataproc.world import ClusterEntry, OperationEntry, World

_EMPTY = {"@type": "type.googleapis.com/google.protobuf.Empty"}
_DECOMMISSION_POLL = 0.2


@work("CREATE")
async def create(world: World, operation: OperationEntry, entry: ClusterEntry) -> dict[str, Any]:
    config = entry.message.config
    for bucket in (config.config_bucket, config.temp_bucket):
        await world.objects.make_bucket(bucket)
    await start(world, entry, instances.nodes(entry), "clusters.create")
    return ready(world, entry)


@work("DELETE")
async def delete(world: World, operation: OperationEntry, entry: ClusterEntry) -> dict[str, Any]:
    await world.end(*(recreation(node.name) for node in instances.nodes(entry)))
    await jobs.abandon(world, entry, "The cluster was deleted.")
    await asyncio.gather(*(world.nodes.stop(node.name) for node in instances.nodes(entry)))
    with world.store.together():
        world.remove("cluster", entry.key)
        operations.finish(world, operation, response=_EMPTY)
    return _EMPTY


@work("STOP")
async def stop(world: World, operation: OperationEntry, entry: ClusterEntry) -> dict[str, Any]:
    await jobs.abandon(world, entry, "The cluster was stopped.")
    await asyncio.gather(*(world.nodes.halt(node.name) for node in instances.nodes(entry)))
    messages.enter(entry.message, ClusterStatus, "STOPPED")
    world.save_cluster(entry)
    return messages.packed(entry.message)


@work("START")
async def start_again(world: World, operation: OperationEntry, entry: ClusterEntry) -> dict[str, Any]:
    await asyncio.gather(*(world.nodes.resume(node.name) for node in instances.nodes(entry)))
    return ready(world, entry)


@work("UPDATE")
async def update(world: World, operation: OperationEntry, entry: ClusterEntry) -> dict[str, Any]:
    paths, config = operation.arguments["paths"], entry.message.config
    wanted = messages.parse(Cluster, operation.arguments["wanted"])
    for group in ("worker", "secondary_worker"):
        if f"config.{group}_config.num_instances" in paths:
            count = getattr(wanted.config, f"{group}_config").num_instances
            await _resize(world, operation, entry, group, count)
    if "labels" in paths:
        own = {key: value for key, value in entry.message.labels.items() if key.startswith("goog-dataproc-")}
        entry.message.labels.clear()
        entry.message.labels.update({**dict(wanted.labels), **own})
    if "config.autoscaling_config.policy_uri" in paths:
        config.autoscaling_config.policy_uri = wanted.config.autoscaling_config.policy_uri
    for name in [path.rpartition(".")[2] for path in paths if ".lifecycle_config." in path]:
        if wanted.config.lifecycle_config.HasField(name):
            getattr(config.lifecycle_config, name).CopyFrom(getattr(wanted.config.lifecycle_config, name))
        else:
            config.lifecycle_config.ClearField(name)
        if name.startswith("auto_"):
            entry.submitted = operation.began
    return ready(world, entry)


@work("DIAGNOSE")
async def diagnose(world: World, operation: OperationEntry, entry: ClusterEntry) -> dict[str, Any]:
    folder = operation.arguments["folder"].rstrip("/") or f"{entry.folder_uri}/{operation.name.rpartition('/')[2]}"
    await world.objects.make_bucket(folder.removeprefix("gs://").partition("/")[0])
    alive = {node.name: await world.nodes.alive(node.name) for node in instances.nodes(entry)}
    content = {"cluster": messages.render(entry.message), "alive": alive}
    await world.objects.write(f"{folder}/diagnostic.tar.gz", gzip.compress(json.dumps(content).encode()))
    return messages.packed(DiagnoseResults(output_uri=f"{folder}/diagnostic.tar.gz"))


def ready(world: World, entry: ClusterEntry) -> dict[str, Any]:
    """It runs, and is idle from now on if it has no job."""
    if entry.state != "DELETING":  # somebody deletes it in this very moment
        messages.enter(entry.message, ClusterStatus, "RUNNING")
    jobs.note_idle(world, entry)
    return messages.packed(entry.message)


async def start(world: World, entry: ClusterEntry, wanted: Iterable[Node], method: str) -> None:
    """Start instances, and put the output of their initialization actions where the service does.

    :raises ApiError: INTERNAL: one could not be started, or one of its actions failed.
    """
    errors = [
        error
        for each in await asyncio.gather(*(_start(world, entry, node, method) for node in wanted))
        for error in each
    ]
    if errors:
        message = errors[0] if len(errors) == 1 else "\n".join(["Multiple Errors:", *(f" - {e}" for e in errors)])
        # Which code the service gives here is not documented.
        raise ApiError("INTERNAL", message)


def recreation(name: str) -> str:
    """The task that makes a preempted instance anew."""
    return f"recreate {name}"


async def _start(world: World, entry: ClusterEntry, node: Node, method: str) -> list[str]:
    try:
        results = await world.nodes.start(node)
    except OSError as error:
        return [f"Instance {node.name} could not be started: {error}"]
    if results and (fault := world.faults.strike("fail_action", method, node.name)):
        results[-1] = ActionResult(fault.exit_code, results[-1].output + fault.output.encode())
    for number, result in enumerate(results):
        uri = f"{entry.folder_uri}/{node.name}/dataproc-initialization-script-{number}_output"
        await world.objects.write(uri, result.output)
        if result.exit_code != 0:
            how = "timed out" if result.exit_code is None else "failed"
            action = node.actions[number].uri
            return [f"Initialization action {how}. Failed action '{action}', see output in: {uri}."]
    return []


async def decommission(world: World, names: Iterable[str], timeout: float) -> None:
    """Wait until no YARN container is on these nodes, as long as that may take."""
    until = time.monotonic() + timeout / world.settings.time_scale
    for name in names:
        while await world.nodes.busy(name) and time.monotonic() < until:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_DECOMMISSION_POLL)


async def _resize(world: World, operation: OperationEntry, entry: ClusterEntry, group: str, count: int) -> None:
    config = getattr(entry.message.config, f"{group}_config")
    timeout, starting = operation.arguments["timeout"], operation.arguments.setdefault("starting", [])
    leaving = list(config.instance_names)[count:]  # which instances go is the service's choice
    await decommission(world, leaving, timeout)
    if not config.machine_type_uri:  # the first secondary workers of this cluster: as its primary ones
        config.machine_type_uri = entry.message.config.worker_config.machine_type_uri
        config.preemptibility, config.is_preemptible = 2, True
    more = instances.more_names(entry.message, group, count - len(config.instance_names))
    config.num_instances = count
    config.instance_names.extend(more)
    starting += more
    with world.store.together():  # before they start: what is not noted could not be removed
        world.save_cluster(entry)
        world.save_operation(operation)
    group_names = set(config.instance_names)
    wanted = [node for node in instances.nodes(entry) if node.name in starting and node.name in group_names]
    await start(world, entry, wanted, "clusters.update")
    await world.end(*(recreation(name) for name in leaving))
    await asyncio.gather(*(world.nodes.stop(name) for name in leaving))
    kept = [name for name in config.instance_names if name not in leaving]
    del config.instance_names[:]
    config.instance_names.extend(kept)
    world.save_cluster(entry)
