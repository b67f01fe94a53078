"""Autoscaling policies: kept and checked. No autoscaler works by them."""

from __future__ import annotations

import re
from typing import Any

from tests.servers.dataproc import messages
from tests.servers.dataproc.call import Call
from tests.servers.dataproc.errors import ApiError, failed_precondition, invalid, not_found
from tests.servers.dataproc.filters import page
from tests.servers.dataproc.messages import AutoscalingPolicy
from tests.servers.dataproc.validation import check_policy
from tests.servers.dataproc.world import World


async def create(world: World, call: Call) -> dict[str, Any]:
    policy = messages.parse(AutoscalingPolicy, call.body)
    check_policy(policy)
    key = _key(call, policy.id)
    if key in world.policies:
        raise ApiError("ALREADY_EXISTS", f"Already exists: Autoscaling policy {key}")
    return _save(world, call, key, policy)


async def get(world: World, call: Call) -> dict[str, Any]:
    return _shown(call, _find(world, call))


async def listed(world: World, call: Call) -> dict[str, Any]:
    here = [policy for key, policy in sorted(world.policies.items()) if key.startswith(_key(call, ""))]
    shown, following = page(here, call.query.get("pageSize", ""), call.query.get("pageToken", ""))
    answer = {"policies": [_shown(call, policy) for policy in shown]} if shown else {}
    return answer | ({"nextPageToken": following} if following else {})


async def update(world: World, call: Call) -> dict[str, Any]:
    _find(world, call)
    policy = messages.parse(AutoscalingPolicy, call.body)
    policy.id = policy.id or call.name
    if policy.id != call.name:
        raise invalid(f"Policy id '{policy.id}' is not '{call.name}' of the request.")
    check_policy(policy)
    return _save(world, call, _key(call, call.name), policy)


async def delete(world: World, call: Call) -> dict[str, Any]:
    _find(world, call)
    key = _key(call, call.name)
    for cluster in world.clusters.values():
        uri = cluster.message.config.autoscaling_config.policy_uri
        here = (cluster.project, cluster.region) == (call.project, call.region)
        if uri and here and policy_key(world, call.project, call.region, uri) == key:
            raise failed_precondition(f"Autoscaling policy {key} is in use by cluster {cluster.key}.")
    world.remove("policy", key)
    return {}


def policy_key(world: World, project: str, region: str, uri: str) -> str:
    """The policy that a cluster names: by its resource name, with or without a URL before it.

    :raises ApiError: INVALID_ARGUMENT: not of this project and region; NOT_FOUND.
    """
    pattern = rf"(?:https://.*/)?projects/{re.escape(project)}/(?:regions|locations)/{re.escape(region)}"
    if not (match := re.fullmatch(rf"{pattern}/autoscalingPolicies/([\w-]+)", uri)):
        raise invalid(f"Autoscaling policy '{uri}' must be of project '{project}' and region '{region}'.")
    key = f"projects/{project}/regions/{region}/autoscalingPolicies/{match[1]}"
    if key not in world.policies:
        raise not_found("Autoscaling policy", key)
    return key


def _find(world: World, call: Call) -> messages.Message:
    if (key := _key(call, call.name)) not in world.policies:
        raise not_found("Autoscaling policy", key)
    return world.policies[key]


def _key(call: Call, name: str) -> str:
    return f"projects/{call.project}/regions/{call.region}/autoscalingPolicies/{name}"


def _save(world: World, call: Call, key: str, policy: messages.Message) -> dict[str, Any]:
    policy.name = key
    if not policy.basic_algorithm.HasField("cooldown_period"):
        policy.basic_algorithm.cooldown_period.seconds = 120
    policy.worker_config.min_instances = policy.worker_config.min_instances or 2
    world.save_policy(key, policy)
    return _shown(call, policy)


def _shown(call: Call, policy: messages.Message) -> dict[str, Any]:
    name = f"{call.parent}/autoscalingPolicies/{policy.id}"
    return messages.render(policy, call.number_enums) | {"name": name}
