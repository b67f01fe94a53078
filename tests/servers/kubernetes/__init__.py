"""A real Kubernetes with the real Dask operator, from Go modules, Debian packages and wheels."""

from __future__ import annotations

from tests.servers.kubernetes.images import DASK_IMAGE, make_dask_image
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.kubernetes.start import running_kubernetes, start_kubernetes

__all__ = ["DASK_IMAGE", "KubernetesServer", "make_dask_image", "running_kubernetes", "start_kubernetes"]
