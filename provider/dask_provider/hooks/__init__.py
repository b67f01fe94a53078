"""How each place is spoken to: one file a place, found by entry point."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from dask_provider.clusters.base import ClusterSpec
from dask_provider.errors import InvalidInput
from dask_provider.hooks.base import ClusterHook


def hook_of(place: str | type[ClusterSpec] | ClusterSpec) -> ClusterHook[Any]:
    """The hook of a place, by its name or a spec.

    :raises InvalidInput: for a place that nobody registered, or whose client library is not installed.
    """
    spec_class = place if isinstance(place, type) else type(place) if isinstance(place, ClusterSpec) else _spec(place)
    module, _, name = spec_class.hook.partition(":")
    try:
        hook: ClusterHook[Any] = getattr(import_module(module), name)()
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "place",
            spec_class.place,
            f"a place whose extra is installed ({error}); try pip install 'airflow-provider-dask[{spec_class.place}]'",
        ) from error
    return hook


def _spec(place: str) -> type[ClusterSpec]:
    places = {point.name: point for point in entry_points(group="airflow_dask.places")}
    if place not in places:
        raise InvalidInput("place", place, f"an installed place: {', '.join(sorted(places))}")
    spec_class: type[ClusterSpec] = places[place].load()
    return spec_class
