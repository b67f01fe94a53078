"""Our initialization actions, and the runtime for the master of an elastic cluster, put where machines read them."""

from __future__ import annotations

from datetime import datetime, timezone

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.hooks.dataproc import storage
from dask_provider.hooks.dataproc.actions import script
from dask_provider.hooks.dataproc.client import Client
from dask_provider.hooks.dataproc.job_requests import digest
from dask_provider.jobs import runtime_archive


async def staged(client: Client, spec: DataprocCluster) -> dict[str, str]:
    """URIs of the scripts that the spec needs, by name; what is there already is not sent again.

    Each day has its own, so that a lifecycle rule of the bucket removes none that a young cluster needs.
    """
    wanted = [*(["nfs"] if spec.nfs else []), *([] if spec.dask == "google" else ["dask"])]
    files = {name: ("sh", script(name).encode()) for name in wanted}
    if spec.elastic:
        files["elastic"] = "pyz", runtime_archive()
    uris, today = {}, datetime.now(timezone.utc).date()
    for name, (kind, content) in files.items():
        uris[name] = f"{storage.staging()}setup/{today}/{name}-{digest(content)}.{kind}"
        await storage.write(client, uris[name], content)
    return uris
