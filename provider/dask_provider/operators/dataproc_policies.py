"""Autoscaling policies of Dataproc, for clusters with ``runtime="yarn"``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from dask_provider.clusters.dataproc_policies import AutoscalingPolicy
from dask_provider.errors import InvalidInput
from dask_provider.operators.base import DaskOperator
from dask_provider.sideloop import run_aside


class DaskSetAutoscalingPolicyOperator(DaskOperator):
    """Creates an autoscaling policy of Dataproc, or changes the one of this name; clusters that use it follow.

    Returns its full name, for ``DataprocCluster(autoscaling_policy=...)``.

    :param policy: what it says, templated: an :class:`~dask_provider.clusters.dataproc_policies.AutoscalingPolicy`, or
        its fields as a mapping.
    :param conn_id: Airflow connection of type ``google_cloud_platform``.
    """

    template_fields: Sequence[str] = ("policy", "conn_id")

    def __init__(
        self,
        *,
        policy: AutoscalingPolicy | Mapping[str, Any],
        conn_id: str = "google_cloud_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.policy = asdict(policy) if isinstance(policy, AutoscalingPolicy) else policy
        self.conn_id = conn_id
        if isinstance(policy, Mapping):  # what is wrong already is told when the DAG is read
            _policy(policy)

    def work(self) -> str:
        from dask_provider.hooks.dataproc import policies

        name, what = run_aside(policies.ensure(_policy(self.policy), self.conn_id))
        self.log.info("autoscaling policy %s %s", name, what)
        return name

    def plan(self) -> dict[str, Any]:
        return {"set autoscaling policy": asdict(_policy(self.policy))}


class DaskDeleteAutoscalingPolicyOperator(DaskOperator):
    """Deletes an autoscaling policy of Dataproc; one that is gone already is fine. Fails while clusters use it.

    :param policy_id: its id.
    :param region: where it is.
    :param project_id: ``None``: that of the connection.
    :param conn_id: Airflow connection of type ``google_cloud_platform``.
    """

    template_fields: Sequence[str] = ("policy_id", "region", "project_id", "conn_id")

    def __init__(
        self,
        *,
        policy_id: str,
        region: str,
        project_id: str | None = None,
        conn_id: str = "google_cloud_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        AutoscalingPolicy(policy_id=policy_id, region=region, project_id=project_id)
        self.policy_id = policy_id
        self.region = region
        self.project_id = project_id
        self.conn_id = conn_id

    def work(self) -> None:
        from dask_provider.hooks.dataproc import policies

        found = AutoscalingPolicy(policy_id=self.policy_id, region=self.region, project_id=self.project_id)
        gone = policies.delete(found.policy_id, region=found.region, project_id=found.project_id, conn_id=self.conn_id)
        what = run_aside(gone)
        self.log.info("autoscaling policy %s: %s", found.policy_id, what)

    def plan(self) -> dict[str, Any]:
        return {"delete autoscaling policy": self.policy_id, "region": self.region, "project_id": self.project_id}


def _policy(given: Any) -> AutoscalingPolicy:
    known = [each.name for each in fields(AutoscalingPolicy)]
    if not isinstance(given, Mapping) or not {"policy_id", "region"} <= set(given) <= set(known):
        raise InvalidInput("policy", given, f"an AutoscalingPolicy: policy_id and region, and of {', '.join(known)}")
    return AutoscalingPolicy(**given)
