"""Find and remove clusters that outlived their run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from dask_provider import config
from dask_provider._compat import run_is_over
from dask_provider.clusters.base import ClusterSpec
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of
from dask_provider.operators.base import DaskOperator
from dask_provider.owner import Owner
from dask_provider.sideloop import run_aside


class DaskReapClustersOperator(DaskOperator):
    """Lists every cluster that this provider made on the given places, and removes those whose run is over or whose
    lifetime is past. One line a cluster in the log; returns what it found.

    Only clusters of this Airflow's ``[dask] instance`` are looked at.

    :param places: specs that name the scopes to look in (a namespace, a project and region, this host).
    :param delete: ``False`` (default): only say what would be deleted. Needs an explicit ``[dask] instance``.
    """

    template_fields: Sequence[str] = ("delete",)

    def __init__(self, *, places: Sequence[ClusterSpec], delete: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        wrong = [place for place in places if not isinstance(place, ClusterSpec)]
        if wrong or not places:
            raise InvalidInput("places", wrong or places, "at least one spec, such as LocalCluster()")
        self.places = list(places)
        self.delete = delete

    def work(self) -> list[dict[str, Any]]:
        delete = _boolean(self.delete)
        if delete and config.instance() == config.DEFAULT_INSTANCE:
            raise InvalidInput(
                "[dask] instance", config.instance(), "a name of this Airflow's own, before clusters are deleted"
            )
        found: list[dict[str, Any]] = []
        failed = []
        for place in self.places:
            spec = self._rendered(place)
            for handle in run_aside(hook_of(spec).list(spec, config.instance())):
                why = verdict(handle, datetime.now(timezone.utc), run_is_over)
                done = "kept"
                if why:
                    done = self._remove(handle, why) if delete else "would be deleted"
                    if done.startswith("failed"):
                        failed.append(handle.name)
                owner = Owner.from_labels(handle.owner)
                self.log.info(
                    "%s %s of %s %s: %s (%s)",
                    handle.place,
                    handle.name,
                    owner.dag_id,
                    owner.run_id,
                    done,
                    why or "its run goes on",
                )
                found.append({"name": handle.name, "place": handle.place, "uid": handle.uid, "why": why, "done": done})
        if failed:
            raise ClusterFailed(f"not deleted: {', '.join(failed)}")
        return found

    def _remove(self, handle: ClusterHandle, why: str) -> str:
        """One cluster that resists must not keep the others alive."""
        try:
            return run_aside(hook_of(handle.place).delete(handle, f"reaped: {why}", compare=True))
        except Exception as error:
            self.log.exception("%s cannot be deleted", handle.name)
            return f"failed: {error}"

    def plan(self) -> dict[str, Any]:
        return {"look at": [repr(place) for place in self.places], "instance": config.instance(), "delete": self.delete}


def verdict(handle: ClusterHandle, now: datetime, is_over: Any) -> str | None:
    """Why the cluster is to go, or ``None``.

    :param is_over: ``(dag_id, run_id) -> bool``.
    """
    if handle.expires and datetime.fromisoformat(handle.expires) < now:
        return f"its lifetime ended {handle.expires}"
    owner = Owner.from_labels(handle.owner)
    return "its run is over" if is_over(owner.dag_id, owner.run_id) else None


def _boolean(value: bool | str) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False}
    if str(value).lower() not in known:
        raise InvalidInput("delete", value, "true or false")
    return known[str(value).lower()]
