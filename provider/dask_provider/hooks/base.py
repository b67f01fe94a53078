"""The contract of a place: what every hook promises, whatever it speaks to.

All methods are coroutines and idempotent, keyed by the owner's deterministic name. They never block the event loop
for long; a trigger and a blocking operator run the very same ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from dask_provider.clusters.base import ClusterSpec
from dask_provider.errors import ClusterFailed
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks.cost import Cost
from dask_provider.jobs import Bundle
from dask_provider.outcomes import Outcome
from dask_provider.owner import Attempt, Owner

#: what ``cancel`` and ``delete`` say of what is another attempt's now
TAKEN_OVER = "left to another attempt, which has taken it over"
#: seconds that a cluster has to be gone, before its name is used again or whoever ended it leaves
GONE_WITHIN = 120.0
#: what ``delete`` says of a cluster that somebody else runs
NOT_OURS = "not ours: left running"
SpecT = TypeVar("SpecT", bound=ClusterSpec)


class SpecChanged(ClusterFailed):
    """The same owner already has a cluster, made from a different spec.

    :param handle: the cluster that is there.
    """

    def __init__(self, message: str, handle: ClusterHandle) -> None:
        super().__init__(message)
        self.handle = handle


@dataclass(frozen=True)
class Readiness:
    """How far a cluster is.

    :param text: one line for the log.
    :param handle: the handle as it is now; complete (with the scheduler's address) when ``ready``.
    :param ready: whether it can be used.
    """

    text: str
    handle: ClusterHandle
    ready: bool = False


@dataclass(frozen=True)
class News:
    """What happened to a job since the last news.

    :param lines: the job's own output.
    :param messages: report messages of the runtime, see :mod:`dask_provider.runtime.report`, and of the place itself:
        ``{"kind": "place", "text": …}``.
    :param position: where to go on after these lines.
    :param outcome: set on the last news.
    """

    lines: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    position: int = 0
    outcome: Outcome | None = None


class ClusterHook(ABC, Generic[SpecT]):
    """How one place is spoken to."""

    place: ClassVar[str]
    #: seconds at most that a deferrable step waits by itself for a cluster to be ready; set where machines take minutes
    #: to come and go: more than it takes to see that an earlier try's is ready would be a wasted slot.
    longest_sync: ClassVar[float] = math.inf

    @abstractmethod
    def plan(self, spec: SpecT, owner: Owner) -> dict[str, Any]:
        """What ``create`` would make, without doing any I/O."""

    @abstractmethod
    async def create(self, spec: SpecT, owner: Owner, attempt: Attempt) -> ClusterHandle:
        """Create, or adopt the one that the same owner made before from the same spec. The lease comes first.

        :param attempt: written on the cluster: who deletes compares it (see :meth:`delete`).
        :returns: with this attempt's number and start, also after :meth:`wait_ready`.
        :raises SpecChanged: when the owner's cluster was made from another spec.
        :raises Overtaken: when a newer try has the cluster; it is left as it is.
        """

    @abstractmethod
    def wait_ready(self, handle: ClusterHandle) -> AsyncIterator[Readiness]:
        """Progress until the scheduler answers and the minimum of workers has joined.

        :raises ClusterFailed: naming the real cause, as soon as it is known.
        """

    @abstractmethod
    async def check(self, handle: ClusterHandle) -> None:
        """Make sure that this very cluster has not ended.

        :raises ClusterGone: naming why it has.
        """

    @abstractmethod
    async def scale(self, handle: ClusterHandle, low: int, high: int) -> None:
        """Ask for between ``low`` and ``high`` workers."""

    @abstractmethod
    async def submit(self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt) -> JobHandle:
        """Start the job, or adopt it; at no time do two jobs of one owner run.

        First adopts or ends any older job of the owner, then writes this attempt on it (see :class:`Attempt`).

        :raises ClusterGone: when the cluster has ended, naming why.
        :raises Overtaken: when a newer try has the job; it is left as it is.
        """

    @abstractmethod
    async def would_adopt(self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt) -> bool:
        """Whether :meth:`submit` would adopt a job of an earlier try. Changes nothing."""

    @abstractmethod
    def watch(self, job: JobHandle, *, position: int, eager: bool) -> AsyncIterator[News]:
        """News until the outcome, which comes last.

        :param position: what was shown before: :attr:`News.position` of the last news, or 0.
        :param eager: look often (a task waits in a worker) or adaptively, 1 s rising to 10 s (in the triggerer).
        """

    @abstractmethod
    async def find_job(self, handle: ClusterHandle, owner: Owner) -> JobHandle | None:
        """The newest job of an owner on or beside the cluster, for whoever has nothing but ids."""

    @abstractmethod
    async def cancel(self, job: JobHandle) -> str:
        """Ask the job to end, if ``job.attempt`` and ``job.started`` still are those written on it. Returns within 2 s.

        A later try does not adopt it any more, even while it is still ending.

        :returns: ``cancelled``, ``already over``, or :data:`TAKEN_OVER` when it is another attempt's now.
        """

    @abstractmethod
    async def delete(self, handle: ClusterHandle, reason: str, *, compare: bool = False) -> str:
        """Ask for the end of this very cluster (same uid). Returns within 2 s.

        :param compare: only if ``handle.attempt`` and ``handle.started`` still are those written on it.
        :returns: ``deleting``, ``already gone``, ``never existed``, or why it is left alone: :data:`TAKEN_OVER` when it
            is another attempt's now, :data:`NOT_OURS`.
        """

    @abstractmethod
    async def wait_gone(self, handle: ClusterHandle, seconds: float) -> bool:
        """Whether nothing of the cluster is left, after at most ``seconds``.

        :raises ClusterFailed: when it is known before that it does not go, naming why.
        """

    async def cost(self, handle: ClusterHandle) -> Cost | None:
        """What the cluster costs, asked once its end was asked for. ``None``: this place has no prices."""
        return None

    @abstractmethod
    async def extend(self, handle: ClusterHandle, seconds: float) -> None:
        """Do not end it for idleness within the next ``seconds``."""

    @abstractmethod
    async def find(self, spec: SpecT, owner: Owner) -> ClusterHandle | None:
        """The cluster of an owner, for whoever has nothing but ids."""

    @abstractmethod
    async def list(self, spec: SpecT, instance: str) -> list[ClusterHandle]:
        """Every cluster that this provider made in the spec's scope for an instance."""
