"""``@task.dask``: a function of the DAG file, run beside the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dask_provider._compat import DecoratedOperator, task_decorator_factory
from dask_provider.operators.job import DaskJobOperator


class _DaskDecoratedOperator(DecoratedOperator, DaskJobOperator):
    custom_operator_name = "@task.dask"
    template_fields: Sequence[str] = DaskJobOperator.template_fields

    def __init__(self, *, python_callable: Any, op_args: Any, op_kwargs: Any, **kwargs: Any) -> None:
        call = {"python_callable": python_callable, "op_args": op_args, "op_kwargs": op_kwargs}
        super().__init__(kwargs_to_upstream=call, **call, **kwargs)

    def _result(self, job: Any, outcome: Any) -> Any:
        """What the function returned; where it was too large for a database, ``{"uri": …}`` of the JSON file."""
        answer = super()._result(job, outcome)["result"] or {}
        return answer.get("value", answer)


def dask_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> Any:
    """Run the function beside a cluster: ``@task.dask(cluster=…)``.

    It is pickled by value and must bring its imports in its body; it returns JSON values. The cluster's Python must be
    of the same minor version.

    :param cluster: handle or spec, as for :class:`~dask_provider.operators.DaskJobOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_DaskDecoratedOperator,
        **kwargs,
    )
