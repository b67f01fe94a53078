"""For those who come from Luigi: the words of a ``KubernetesJobTask`` as fields of ``KubernetesJobOperator``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from dask_provider.errors import InvalidInput

#: how long an ended job stays that Luigi would have kept for ever
KEPT = timedelta(days=7)
#: retries of a task that names no number, as with Luigi
BACKOFF_LIMIT = 6


def from_luigi(
    *,
    name: str,
    spec_schema: Mapping[str, Any],
    cmd: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    backoff_limit: int | None = None,
    max_retrials: int | None = None,
    active_deadline_seconds: float | None = None,
    poll_interval: float | None = None,
    pod_creation_wait_interal: float | None = None,
    delete_on_success: bool = True,
    print_pod_logs_on_exit: bool = False,
    kubernetes_namespace: str | None = None,
    auth_method: str | None = None,
    kubeconfig_path: str | None = None,
    kubernetes_config: object = None,
) -> dict[str, Any]:
    """The fields of the operator; write others beside them, or over them.

    ``KubernetesJobOperator(task_id="preprocess", **from_luigi(name=..., spec_schema={...}, cmd=[...]))``

    :param name: ``name`` of the task.
    :param spec_schema: ``spec_schema`` of the task: the spec of the pod.
    :param cmd: the command, where ``spec_schema`` does not hold it (as ``self.cmd``).
    :param labels: ``labels``.
    :param backoff_limit: the task's ``retries``; 6 where ``max_retrials`` is not given either.
    :param max_retrials: another word for ``backoff_limit``.
    :param active_deadline_seconds: ``active_deadline_seconds``; Luigi has none, here a day is the default.
    :param poll_interval: means nothing any more: jobs are watched.
    :param pod_creation_wait_interal: likewise (the word is Luigi's own).
    :param delete_on_success: whether Kubernetes keeps the ended job for an hour or for a week.
    :param print_pod_logs_on_exit: means nothing any more: the log is always shown, while it is written.
    :param kubernetes_namespace: ``kubernetes_namespace``.
    :param auth_method: refused: ``conn_id`` names an Airflow connection, which says it.
    :param kubeconfig_path: likewise.
    :param kubernetes_config: likewise.
    :raises InvalidInput: for more than one container, another restart policy than ``Never``, two numbers of retries,
        and a way to Kubernetes that is no connection.
    """
    from dask_provider.clusters.kubernetes_job import KubernetesJob

    elsewhere = {
        "auth_method": auth_method,
        "kubeconfig_path": kubeconfig_path,
        "kubernetes_config": kubernetes_config,
    }
    for word, value in elsewhere.items():
        if value is not None:
            raise InvalidInput(word, value, "conn_id of the operator: an Airflow connection of type kubernetes")
    retries = _retries(backoff_limit, max_retrials)
    fields: dict[str, Any] = {"name": name, "spec_schema": dict(spec_schema)}
    optional = {"cmd": cmd, "labels": dict(labels or {}), "namespace": kubernetes_namespace}
    fields.update({field: value for field, value in optional.items() if value})
    if active_deadline_seconds is not None:
        fields["active_deadline_seconds"] = active_deadline_seconds
    if not delete_on_success:
        fields["keep_seconds"] = KEPT.total_seconds()
    KubernetesJob(**fields)
    return {**fields, "retries": retries}


def _retries(backoff_limit: int | None, max_retrials: int | None) -> int:
    given = {"backoff_limit": backoff_limit, "max_retrials": max_retrials}
    numbers = {word: number for word, number in given.items() if number is not None}
    for word, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise InvalidInput(word, number, "a whole number of at least 0")
    if len(set(numbers.values())) > 1:
        raise InvalidInput("max_retrials", max_retrials, f"one number of retries; backoff_limit is {backoff_limit}")
    return next(iter(numbers.values()), BACKOFF_LIMIT)
