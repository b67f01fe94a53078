"""What the steps that follow would refuse at their turn, refused before there is a cluster to pay for."""

from __future__ import annotations

import re
from typing import Any

from dask_provider.operators.base import DaskOperator
from dask_provider.units import is_template

_OF_THE_TASK = re.compile(r"\b(ti|task|task_instance\w*|map_index|try_number)\b")


def known_ahead(value: Any) -> bool:
    """Whether another task can render it with its own context and get what the task itself will get."""
    # What is no text comes from another task; what asks for the task instance would ask for another one here.
    return isinstance(value, str) and not (is_template(value) and _OF_THE_TASK.search(value))


def check_ahead(step: DaskOperator, context: Any) -> None:
    """Ask the jobs and store steps that follow ``step``, as far as nothing in between may change the answer.

    Mapped tasks are not asked: their inputs come later.

    :raises InvalidInput: by the first that could not run.
    """
    before = {step.task_id, *step.get_flat_relative_ids(upstream=True)}
    following = list(step.get_flat_relatives(upstream=False))
    ours = {task.task_id for task in following if issubclass(getattr(task, "operator_class", type(task)), DaskOperator)}
    for task in following:
        others = task.upstream_task_ids - before
        # What a job reads may be written by any other task; the place for results is made by none of ours.
        if hasattr(task, "check_sources") and not others:
            task.check_sources(context)
        if hasattr(task, "check_destination") and others <= ours:
            task.check_destination(context)
