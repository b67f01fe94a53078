"""Waits until a cluster is ready, or gone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from dask_provider.errors import ClusterFailed
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import GONE_WITHIN
from dask_provider.owner import TaskKey
from dask_provider.triggers.base import WaitTrigger


class DaskClusterTrigger(WaitTrigger):
    """Fires ``{"cluster": …}`` when ready, ``{"failed": reason}`` when it cannot become so.

    :param cluster: record of the cluster.
    """

    #: a create step that succeeded has a teardown
    spares = WaitTrigger.spares | {"success"}

    def __init__(self, cluster: dict[str, Any], waiter: TaskKey, deadline: float | None) -> None:
        super().__init__(waiter, deadline)
        self.cluster = cluster

    def serialize(self) -> tuple[str, dict[str, Any]]:
        fields = ("cluster", "waiter", "deadline")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in fields}

    async def wait(self) -> AsyncIterator[dict[str, Any]]:
        handle = ClusterHandle.from_dict(self.cluster)
        try:
            async for readiness in hook_of(handle.place).wait_ready(handle):
                self.log.info("%s", readiness.text)
                if readiness.ready:
                    yield {"cluster": readiness.handle.to_dict()}
        except ClusterFailed as error:
            yield {"failed": str(error)}

    async def end(self, *, run_over: bool) -> None:
        handle = ClusterHandle.from_dict(self.cluster)
        hook = hook_of(handle.place)
        if await hook.delete(handle, "its task was ended", compare=True) == "deleting":
            # What a place still makes of a cluster that was deleted half-way is ended by whoever waits.
            await hook.wait_gone(handle, GONE_WITHIN)


class DaskClusterGoneTrigger(WaitTrigger):
    """Fires ``{"gone": bool}`` for a cluster whose deletion was asked for, ``{"failed": reason}`` when that is held up.

    :param cluster: record of the cluster.
    :param until: seconds since the epoch at which it fires ``{"gone": False}``.
    """

    def __init__(self, cluster: dict[str, Any], waiter: TaskKey, deadline: float | None, until: float) -> None:
        super().__init__(waiter, deadline)
        self.cluster = cluster
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        fields = ("cluster", "waiter", "deadline", "until")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in fields}

    async def wait(self) -> AsyncIterator[dict[str, Any]]:
        handle = ClusterHandle.from_dict(self.cluster)
        try:
            gone = await hook_of(handle.place).wait_gone(handle, max(0.0, self.until - time.time()))
        except ClusterFailed as error:
            yield {"failed": str(error)}
        else:
            yield {"gone": gone}

    async def end(self, *, run_over: bool) -> None:
        """Nothing: only the wait ends, the cluster goes by itself."""
