"""Paths of the API: ``jobs(namespace)`` for all Jobs of a namespace, ``jobs(namespace, name)`` for one; selectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

#: labels or fields and their values, or a selector in the API's own words
Labels = Mapping[str, str] | str | None


def _plural(api: str, plural: str) -> Callable[..., str]:
    def path(namespace: str, name: str | None = None) -> str:
        """The path of all objects in a namespace, or of one."""
        ending = "" if name is None else f"/{quote(name, safe=':')}"
        return f"{api}/namespaces/{quote(namespace, safe='')}/{plural}{ending}"

    return path


pods = _plural("/api/v1", "pods")
services = _plural("/api/v1", "services")
secrets = _plural("/api/v1", "secrets")
configmaps = _plural("/api/v1", "configmaps")
events = _plural("/api/v1", "events")
resourcequotas = _plural("/api/v1", "resourcequotas")
jobs = _plural("/apis/batch/v1", "jobs")
deployments = _plural("/apis/apps/v1", "deployments")
daskclusters = _plural("/apis/kubernetes.dask.org/v1", "daskclusters")
daskworkergroups = _plural("/apis/kubernetes.dask.org/v1", "daskworkergroups")
daskautoscalers = _plural("/apis/kubernetes.dask.org/v1", "daskautoscalers")


def selector(wanted: Labels) -> str | None:
    """A label or field selector as the API wants it."""
    if wanted is None or isinstance(wanted, str):
        return wanted
    return ",".join(f"{name}={value}" for name, value in sorted(wanted.items()))
