"""The place ``kubernetes``: any Kubernetes that runs the Dask operator."""

from __future__ import annotations

from dask_provider.hooks.kubernetes.existing import KubernetesHook

__all__ = ["KubernetesHook"]
