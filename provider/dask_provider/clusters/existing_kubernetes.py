"""A Dask cluster on Kubernetes that somebody else made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from dask_provider.clusters import kubernetes_fields as fields
from dask_provider.clusters.base import ClusterSpec
from dask_provider.clusters.kubernetes import DEFAULT_MEMORY, with_defaults
from dask_provider.errors import InvalidInput
from dask_provider.units import is_template, parse_seconds


@dataclass(frozen=True, kw_only=True, repr=False)
class ExistingKubernetesCluster(ClusterSpec):
    """A running DaskCluster, by its name in Kubernetes. It is checked and used, never changed or deleted.

    Jobs run as pods beside it: image, environment, volumes, nodes and service account are those of its scheduler.

    :param name: of the DaskCluster.
    :param namespace: where it is; ``None``: that of the connection.
    :param conn_id: Airflow connection of type ``kubernetes``; ``None``: the Kubernetes that Airflow runs in, or the
        current context of the kubeconfig file.
    :param job_resources: of the pod of each job; default one CPU and 2 GiB.
    :param active_deadline_seconds: seconds (or ``"2h"``) after which Kubernetes itself ends a job, also when all of
        Airflow is gone: there is no lease.
    """

    place: ClassVar[str] = "kubernetes"
    hook: ClassVar[str] = "dask_provider.hooks.kubernetes:KubernetesHook"

    name: str = ""
    namespace: str | None = None
    conn_id: str | None = None
    job_resources: Mapping[str, Any] = field(default_factory=dict)
    active_deadline_seconds: float | str | timedelta = 86400

    def __post_init__(self) -> None:
        super().__post_init__()
        fields.check_object_name(self._field("name"), self.name)
        if self.namespace is not None:
            fields.check_name(self._field("namespace"), self.namespace)
        if self.env:
            allowed = "nothing: the scheduler's environment is the job's too; more goes into env of the job's step"
            raise InvalidInput(self._field("env"), sorted(self.env), allowed)
        fields.parse_resources(self._field("job_resources"), self.job_resources)
        if not is_template(self.active_deadline_seconds):
            parse_seconds(self._field("active_deadline_seconds"), self.active_deadline_seconds)

    @property
    def job_quantities(self) -> fields.Resources:
        """Requests and limits of the pod of a job."""
        return with_defaults(self._field("job_resources"), self.job_resources, 1, DEFAULT_MEMORY)

    @property
    def deadline(self) -> int:
        """``active_deadline_seconds`` as Kubernetes takes it."""
        return max(1, round(parse_seconds(self._field("active_deadline_seconds"), self.active_deadline_seconds)))
