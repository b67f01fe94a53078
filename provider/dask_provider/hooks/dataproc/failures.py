"""Why a cluster cannot be, in the words of Dataproc and of its scripts."""

from __future__ import annotations

import contextlib
import re

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks.dataproc import storage
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.dataproc.requests import runs_googles_action

#: lines of a script's output that are shown
LINES = 40
#: bytes of it that are read
MOST = 1 << 20
_OUTPUT = re.compile(r"gs://[^\s'\"]+_output")


def refused(spec: DataprocCluster, error: ApiError) -> Exception:
    """What the user reads of a request that Dataproc does not take."""
    if error.reason in ("INVALID_ARGUMENT", "NOT_FOUND") and "quota" not in str(error):
        return InvalidInput("DataprocCluster", spec, f"what Dataproc takes; it says: {error}")
    return ClusterFailed(f"Dataproc makes no cluster in {spec.region}: {error}")


async def operation_error(client: Client, operation: str | None) -> str:
    """What went wrong with the making of a cluster; empty when nothing did, or nobody knows any more."""
    if operation:
        with contextlib.suppress(ApiError):
            return str(((await client.get(operation)).get("error") or {}).get("message") or "")
    return ""


async def explained(client: Client, found: Object, operation: str | None) -> ClusterFailed:
    """What became of a cluster in state ERROR, with the end of what its script wrote."""
    said = str(found["status"].get("detail") or ""), await operation_error(client, operation)
    reason = max(said, key=len) or "Dataproc does not say why"
    lines: list[str] = []
    for uri in dict.fromkeys(_OUTPUT.findall(reason)):
        with contextlib.suppress(ApiError):
            blobs = [blob for blob in await storage.found(client, uri) if blob.uri == uri]
            start = max(0, blobs[0].size - MOST) if blobs else 0
            text = (await storage.read(client, uri, start)).decode(errors="replace")
            lines += [f"--- the end of {uri}", *text.splitlines()[-LINES:]]
    return ClusterFailed("\n".join([f"cluster {found['clusterName']} failed to start: {reason}", *lines]))


def machines(found: Object) -> str:
    """How many there are, for the log."""
    config = found["config"]
    groups = ("workerConfig", "secondaryWorkerConfig")
    workers = sum(int((config.get(group) or {}).get("numInstances") or 0) for group in groups)
    return f"1 master and {workers} workers" if workers else "1 master, which is its own worker,"


def dashboard(found: Object) -> str | None:
    """Dask's page behind the Component Gateway, where Google's own initialization action has put it."""
    if runs_googles_action(found):
        ports = ((found["config"].get("endpointConfig") or {}).get("httpPorts")) or {}
        for url in map(str, ports.values()):
            if "/gateway/" in url:
                return f"{url.partition('/gateway/')[0]}/gateway/default/dask/status"
    return None
