"""Autoscaling policies, by which Dataproc resizes clusters with ``runtime="yarn"``."""

from __future__ import annotations

from dask_provider.clusters.dataproc_policies import AutoscalingPolicy
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.dataproc.clusters import access_of
from dask_provider.hooks.dataproc.requests import duration


def request(policy: AutoscalingPolicy) -> Object:
    """The body of ``autoscalingPolicies.create`` and ``update``. Pure."""
    low, high = policy.worker_range
    least, most = policy.secondary_range
    return {
        "id": policy.policy_id,
        "workerConfig": {"minInstances": low, "maxInstances": high},
        "secondaryWorkerConfig": {"minInstances": least, "maxInstances": most},
        "basicAlgorithm": {
            "cooldownPeriod": duration(policy.cooldown_seconds),
            "yarnConfig": {
                "gracefulDecommissionTimeout": duration(policy.graceful_seconds),
                "scaleUpFactor": policy.fraction("scale_up"),
                "scaleDownFactor": policy.fraction("scale_down"),
                "scaleUpMinWorkerFraction": policy.fraction("scale_up_min_fraction"),
                "scaleDownMinWorkerFraction": policy.fraction("scale_down_min_fraction"),
            },
        },
    }


async def ensure(policy: AutoscalingPolicy, conn_id: str) -> tuple[str, str]:
    """Have a policy be as described: its name at Dataproc, and ``created`` or ``updated``.

    :raises ClusterFailed: Dataproc does not take it.
    """
    async with await _open(conn_id, policy.project_id, policy.region) as client:
        try:
            made = await client.call("POST", client.policies(), body=request(policy))
        except ApiError as error:
            if error.reason != "ALREADY_EXISTS":
                raise _failed(policy.policy_id, error) from None
        else:
            return str(made["name"]), "created"
        try:  # as a whole: a field that is not given gets its default
            made = await client.call("PUT", client.policies(policy.policy_id), body=request(policy))
        except ApiError as error:
            raise _failed(policy.policy_id, error) from None
        return str(made["name"]), "updated"


async def delete(policy_id: str, *, region: str, project_id: str | None, conn_id: str) -> str:
    """Delete a policy: ``deleted`` or ``already gone``.

    :raises ClusterFailed: clusters use it.
    """
    async with await _open(conn_id, project_id, region) as client:
        try:
            await client.call("DELETE", client.policies(policy_id))
        except ApiError as error:
            if error.reason == "NOT_FOUND":
                return "already gone"
            raise _failed(policy_id, error) from None
        return "deleted"


def _failed(policy_id: str, error: ApiError) -> ClusterFailed:
    return ClusterFailed(f"autoscaling policy {policy_id}: Dataproc says: {error}")


async def _open(conn_id: str, project_id: str | None, region: str) -> Client:
    access = await access_of(conn_id)
    if not (project := project_id or access.project_id):
        raise InvalidInput("project_id", None, f"a project id, here or as the project of {access.source}")
    return Client(access, project, region)
