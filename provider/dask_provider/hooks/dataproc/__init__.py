"""Google Dataproc: clusters of machines, with Dask on them."""

from dask_provider.hooks.dataproc.jobs import DataprocHook

__all__ = ["DataprocHook"]
