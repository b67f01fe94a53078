"""Whose a job is, in the words of labels."""

from __future__ import annotations

import random

from dask_provider.hooks.dataproc.job_requests import attempt_labels, attempt_of
from dask_provider.owner import Attempt


def test_no_try_overtakes_itself() -> None:
    """Its start must not grow by being written down: it would take its own job for a newer try's."""
    for _ in range(1000):
        attempt = Attempt(2, fresh=False, last=False, started=random.uniform(1.7e9, 2e9))
        number, started = attempt_of({"labels": attempt_labels(attempt)})
        assert not attempt.is_overtaken_by(number, started)
        assert started == attempt.started
        later = Attempt(3, fresh=False, last=False, started=attempt.started + 0.001)
        assert attempt.is_overtaken_by(*attempt_of({"labels": attempt_labels(later)}))
