"""Our initialization actions, put where machines read them."""

from __future__ import annotations

from importlib import resources

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.hooks.dataproc import storage
from dask_provider.hooks.dataproc.client import Client
from dask_provider.hooks.dataproc.job_requests import digest


async def staged(client: Client, spec: DataprocCluster) -> dict[str, str]:
    """URIs of the scripts that the spec needs, by name; what is there already is not sent again."""
    wanted = [*(["nfs"] if spec.nfs else []), *([] if spec.dask == "google" else ["dask"])]
    uris = {}
    for name in wanted:
        content = (resources.files(__package__) / "actions" / f"{name}.sh").read_bytes()
        uris[name] = f"{storage.staging()}setup/{name}-{digest(content)}.sh"
        await storage.write(client, uris[name], content)
    return uris
