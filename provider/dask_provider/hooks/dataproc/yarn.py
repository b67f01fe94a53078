"""Dask on the YARN of a cluster: what its spec asks for, and the application that each of its jobs starts. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.runtime.yarn_spec import NANNY

#: metadata of the machines with what a job needs of the cluster's spec
YARN = "dask-provider-yarn"
#: the queue of Dataproc's YARN
QUEUE = "default"


def wanted(spec: DataprocCluster) -> dict[str, Any]:
    """Fields of a :class:`~dask_provider.runtime.yarn_spec.YarnSpec` that follow from the cluster's."""
    assert spec.memory_bytes is not None
    return {
        "workers": [spec.worker_range[0], spec.most_workers],
        "worker_vcores": spec.thread_count,
        "worker_memory": math.ceil(spec.memory_bytes / 2**20) + NANNY,
        "idle_timeout": spec.idle_seconds,
        "start_timeout": spec.ready_seconds,
        "max_lifetime": spec.lifetime_seconds,
        "tls": spec.tls,
    }


def properties(spec: DataprocCluster) -> dict[str, str]:
    """Of the daemons: no application outlives the cluster's time, also one that a program starts by itself."""
    queue = f"capacity-scheduler:yarn.scheduler.capacity.root.{QUEUE}"
    seconds = str(math.ceil(spec.lifetime_seconds))
    return {f"{queue}.{which}-application-lifetime": seconds for which in ("default", "maximum")}


def runs_on_yarn(cluster: Mapping[str, Any]) -> bool:
    """Whether a cluster's jobs start Dask on YARN."""
    return YARN in _metadata(cluster)


def application(cluster: Mapping[str, Any], tags: Sequence[str], python: str, env: Mapping[str, str]) -> dict[str, Any]:
    """The ``yarn`` of a job's ``job.json``.

    :param tags: by which an application is found again: the owner's name, and the job with its number and start.
    :param python: of Dask's environment on the machines.
    :param env: of scheduler and workers.
    """
    fields = json.loads(_metadata(cluster)[YARN])
    return {**fields, "python": python, "name": tags[0], "queue": QUEUE, "tags": list(tags), "env": dict(env)}


def _metadata(cluster: Mapping[str, Any]) -> Mapping[str, str]:
    return ((cluster.get("config") or {}).get("gceClusterConfig") or {}).get("metadata") or {}
