"""The steps of a DAG; none knows a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_provider.operators.cluster import (
        DaskCreateClusterOperator,
        DaskDeleteClusterOperator,
        DaskScaleClusterOperator,
    )
    from dask_provider.operators.dataproc_policies import (
        DaskDeleteAutoscalingPolicyOperator,
        DaskSetAutoscalingPolicyOperator,
    )
    from dask_provider.operators.job import DaskJobOperator
    from dask_provider.operators.kubernetes_job import KubernetesJobOperator
    from dask_provider.operators.kubernetes_ports import DaskChangeNodePortsOperator
    from dask_provider.operators.reaper import DaskReapClustersOperator
    from dask_provider.operators.results import DaskStoreResultsOperator

_MODULES = {
    "DaskChangeNodePortsOperator": "kubernetes_ports",
    "DaskCreateClusterOperator": "cluster",
    "DaskDeleteAutoscalingPolicyOperator": "dataproc_policies",
    "DaskDeleteClusterOperator": "cluster",
    "DaskJobOperator": "job",
    "DaskReapClustersOperator": "reaper",
    "DaskScaleClusterOperator": "cluster",
    "DaskSetAutoscalingPolicyOperator": "dataproc_policies",
    "DaskStoreResultsOperator": "results",
    "KubernetesJobOperator": "kubernetes_job",
}
__all__ = [
    "DaskChangeNodePortsOperator",
    "DaskCreateClusterOperator",
    "DaskDeleteAutoscalingPolicyOperator",
    "DaskDeleteClusterOperator",
    "DaskJobOperator",
    "DaskReapClustersOperator",
    "DaskScaleClusterOperator",
    "DaskSetAutoscalingPolicyOperator",
    "DaskStoreResultsOperator",
    "KubernetesJobOperator",
]


def __getattr__(name: str) -> object:
    """Each operator's module is imported when it is asked for: a task pays only for its own."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
