"""Errors that a user can act on: each names the field, the value and what is allowed."""

from __future__ import annotations


class InvalidInput(ValueError):
    """Something that the user wrote cannot be used; raised before anything is started.

    :param field: what was set, for example ``LocalCluster.workers``.
    :param value: what it was set to.
    :param allowed: what would have been accepted, in words.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field, self.value, self.allowed = field, value, allowed
        super().__init__(f"{field}: {value!r} is not possible; allowed: {allowed}")

    def __reduce__(self) -> tuple[type[InvalidInput], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.allowed)


class ClusterFailed(RuntimeError):
    """The cluster cannot become, or no longer is, usable; the message names the cause."""


class ClusterGone(ClusterFailed):
    """The cluster existed and has ended; the message names why (``idle_timeout``, ``max_lifetime``, deleted)."""


class JobFailed(RuntimeError):
    """The job did not succeed; the message says why first, then shows the end of its output."""


class Overtaken(JobFailed):
    """A newer try of the same task has it: this process, which Airflow has lost sight of, leaves it alone.

    :param what: the cluster or job, in words.
    :param number: of this try.
    :param newer: number of the other.
    """

    def __init__(self, what: str, number: int, newer: int) -> None:
        self.what, self.number, self.newer = what, number, newer
        text = f"{what} belongs to try {newer}, which began after this process of try {number}: it is left alone"
        super().__init__(text)

    def __reduce__(self) -> tuple[type[Overtaken], tuple[str, int, int]]:
        return type(self), (self.what, self.number, self.newer)


class WrongHost(RuntimeError):
    """The cluster or job lives on another machine than this process, on a place that needs them to be the same."""
