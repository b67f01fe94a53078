"""For those who come from Luigi: the words of a ``KubernetesJobTask`` as fields of ``KubernetesJobOperator``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from dask_provider.errors import InvalidInput

#: how long an ended job stays that Luigi would have kept for ever
KEPT = timedelta(days=7)


def from_luigi(
    *,
    name: str,
    spec_schema: Mapping[str, Any],
    cmd: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    backoff_limit: int = 6,
    active_deadline_seconds: float | None = None,
    poll_interval: float | None = None,
    delete_on_success: bool = True,
    print_pod_logs_on_exit: bool = False,
    kubernetes_namespace: str | None = None,
) -> dict[str, Any]:
    """The fields of the operator; write others beside them, or over them.

    ``KubernetesJobOperator(task_id="preprocess", **from_luigi(name=..., spec_schema={...}, cmd=[...]))``

    :param name: ``name`` of the task.
    :param spec_schema: ``spec_schema`` of the task: the spec of the pod.
    :param cmd: the command, where ``spec_schema`` does not hold it (as ``self.cmd``).
    :param labels: ``labels``.
    :param backoff_limit: ``backoff_limit`` (or ``max_retrials``): the task's ``retries``.
    :param active_deadline_seconds: ``active_deadline_seconds``; Luigi has none, here a day is the default.
    :param poll_interval: means nothing any more: jobs are watched.
    :param delete_on_success: whether Kubernetes keeps the ended job for an hour or for a week.
    :param print_pod_logs_on_exit: means nothing any more: the log is always shown, while it is written.
    :param kubernetes_namespace: ``kubernetes_namespace``.
    :raises InvalidInput: for more than one container, or another restart policy than ``Never``.
    """
    from dask_provider.clusters.kubernetes_job import KubernetesJob

    if not isinstance(backoff_limit, int) or isinstance(backoff_limit, bool) or backoff_limit < 0:
        raise InvalidInput("backoff_limit", backoff_limit, "a whole number of at least 0")
    fields: dict[str, Any] = {"name": name, "spec_schema": dict(spec_schema)}
    optional = {"cmd": cmd, "labels": dict(labels or {}), "namespace": kubernetes_namespace}
    fields.update({field: value for field, value in optional.items() if value})
    if active_deadline_seconds is not None:
        fields["active_deadline_seconds"] = active_deadline_seconds
    if not delete_on_success:
        fields["keep_seconds"] = KEPT.total_seconds()
    KubernetesJob(**fields)
    return {**fields, "retries": backoff_limit}
