"""What a user wants of a cluster: one frozen dataclass a place. Pure data, cheap to import."""

from dask_provider.clusters.base import ClusterSpec, TemporaryClusterSpec
from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.clusters.existing import ExistingCluster
from dask_provider.clusters.existing_kubernetes import ExistingKubernetesCluster
from dask_provider.clusters.kubernetes import KubernetesCluster
from dask_provider.clusters.local import LocalCluster

__all__ = [
    "ClusterSpec",
    "DataprocCluster",
    "ExistingCluster",
    "ExistingKubernetesCluster",
    "KubernetesCluster",
    "LocalCluster",
    "TemporaryClusterSpec",
]
