"""Why a cluster cannot be, in the words of Dataproc and of its scripts."""

from __future__ import annotations

import asyncio
import contextlib
import re
from urllib.parse import urlsplit

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks.dataproc import storage
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.dataproc.rights import AGENTS, BUCKET_ROLES, in_words
from dask_provider.hooks.dataproc.yarn import runs_on_yarn

#: lines of a script's output that are shown
LINES = 40
#: bytes of it that are read
MOST = 1 << 20
#: seconds for Dataproc's own diagnosis: the machines cost money meanwhile, and where their agent is down it never ends
DIAGNOSED_WITHIN = 60.0
#: seconds between looks at it
LOOK_EVERY = 1.0
#: what Google says, in the order in which it is looked for, and what helps
_REMEDIES = (
    (
        r"act as service account|actAs",
        "give the account of the connection the role Service Account User on that account",
    ),
    (
        r"cloudkms|Cloud KMS",
        f"give the service agents of {in_words(AGENTS.values())} the role Cloud KMS CryptoKey Encrypter/Decrypter on "
        "that key, which must lie in the cluster's region",
    ),
    (
        r"storage\.(objects|buckets)\.|bucket does not exist",
        "the bucket must be there, and the accounts of the connection and of the machines need the roles "
        f"{in_words(BUCKET_ROLES.values())} on it",
    ),
    (
        r"Insufficient '\w+' quota|Quota '\w+' exceeded",
        "ask for more of the region's quota, or for fewer or smaller machines",
    ),
    (
        r"enough resources|RESOURCE_POOL_EXHAUSTED|stockout",
        "leave zone= out, so that Dataproc chooses one, take another machine type, or try again later",
    ),
    (r"subnetworks", "give the account of the connection the role Compute Network User on that subnetwork"),
    (
        r"PERMISSION_DENIED|SERVICE_DISABLED|[Pp]ermission",
        "see that the project is there and has the Dataproc API enabled, and the connection's account the role "
        "Dataproc Editor there",
    ),
    (r"UNAUTHENTICATED", "see the key in the connection, or the identity that Airflow runs as"),
)
_OUTPUT = re.compile(r"gs://[^\s'\"]+_output")


def refused(spec: DataprocCluster, error: ApiError) -> Exception:
    """What the user reads of a request that Dataproc does not take."""
    if error.reason in ("INVALID_ARGUMENT", "NOT_FOUND") and "quota" not in str(error):
        return InvalidInput("DataprocCluster", spec, f"what Dataproc takes; it says: {error}")
    return ClusterFailed(f"Dataproc makes no cluster in {spec.region}: {advised(str(error))}")


def advised(said: str) -> str:
    """The cause in Google's words, and what helps where that is known. Pure."""
    for pattern, remedy in () if "Initialization action" in said else _REMEDIES:  # whose output tells
        if re.search(pattern, said):
            return f"{said.rstrip('. ')}. What helps: {remedy}"
    return said


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
    return ClusterFailed("\n".join([f"cluster {found['clusterName']} failed to start: {advised(reason)}", *lines]))


def announced(failed: ClusterFailed) -> str:
    """The cause in a line, for the log: it does not wait for the diagnosis."""
    return f"{str(failed).splitlines()[0]}; Dataproc has {DIAGNOSED_WITHIN:.0f} s to diagnose it before it is deleted"


async def diagnosed(client: Client, name: str, failed: ClusterFailed) -> ClusterFailed:
    """The same failure, with where Dataproc's archive of logs and configuration lies, or why there is none.

    Never raises what goes wrong with that.
    """
    operation: Object = {}

    async def collect() -> None:
        nonlocal operation
        operation = await client.call("POST", f"{client.clusters(name)}:diagnose", body={})
        while not operation.get("done"):
            await asyncio.sleep(LOOK_EVERY)
            operation = await client.get(operation["name"])

    try:
        await asyncio.wait_for(collect(), DIAGNOSED_WITHIN)
        why = (operation.get("error") or {}).get("message") or "it says nothing of an archive"
        said = str((operation.get("response") or {}).get("outputUri") or why)
    except asyncio.TimeoutError:
        said = f"not there within {DIAGNOSED_WITHIN:.0f} s"
    except ApiError as error:
        said = f"cannot be had: {error}"
    where = f" (operation {operation['name']})" if "name" in operation else ""
    return ClusterFailed(f"{failed}\n--- Dataproc's diagnosis{where}: {said}")


def machines(found: Object) -> str:
    """How many there are, for the log."""
    config = found["config"]
    groups = ("workerConfig", "secondaryWorkerConfig")
    workers = sum(int((config.get(group) or {}).get("numInstances") or 0) for group in groups)
    return f"1 master and {workers} workers" if workers else "1 master, which is its own worker,"


def dashboard(found: Object) -> str | None:
    """Dask's page behind the Component Gateway, where its script has put it. On YARN each job has another one."""
    ports = ((found["config"].get("endpointConfig") or {}).get("httpPorts")) or {}
    hosts = [url.netloc for url in map(urlsplit, map(str, ports.values())) if url.scheme == "https"]
    return None if runs_on_yarn(found) or not hosts else f"https://{hosts[0]}/gateway/default/dask/status"
