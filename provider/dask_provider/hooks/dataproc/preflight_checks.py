"""The questions of :mod:`dask_provider.hooks.dataproc.preflight`: each finds out one thing, and says what to do.

Only questions: nothing is made or changed. What cannot be asked, or is not told, is unknown and never counts as good.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.hooks.dataproc import costs, storage
from dask_provider.hooks.dataproc.access import Access, NoCredentials
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.dataproc.quotas import shortages
from dask_provider.hooks.dataproc.rights import (
    AGENTS,
    BUCKET_RIGHTS,
    BUCKET_ROLES,
    ELASTIC_RIGHTS,
    KEY_ROLE,
    POLICY_RIGHTS,
    RIGHTS,
    in_words,
)

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"
#: APIs without which there is no such cluster; all others are only asked
NEEDED = ("dataproc", "compute", "storage", "cloudkms")
_REGION = re.compile(r"[a-z]+-[a-z]+\d+")
#: since then Dataproc itself gives a subnetwork Private Google Access
_PRIVATE_SINCE = (2, 2)


@dataclass(frozen=True)
class Check:
    """:param name: what was asked for.
    :param state: ``ok``, ``failed`` or ``unknown``.
    :param text: what was found.
    :param remedy: what to do about it.
    """

    name: str
    state: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Surroundings:
    """:param config: the configuration of the cluster that would be asked for.
    :param groups: its machines.
    :param more: why there may come to be more of them than anybody knows; empty: there will not.
    """

    client: Client
    spec: DataprocCluster
    config: Mapping[str, Any]
    groups: Sequence[costs.Group]
    more: str

    @property
    def project(self) -> str:
        """``projects/P``."""
        return f"projects/{self.client.project_id}"

    @property
    def gce(self) -> Mapping[str, Any]:
        """Network and account of the machines."""
        return dict(self.config.get("gceClusterConfig") or {})


async def credentials(access: Access) -> Check:
    """Whether Google knows Airflow's account."""
    try:
        token = await access.token()
    except (NoCredentials, ConnectionError) as error:
        return Check("credentials", FAILED, str(error), f"mend {access.source}, or Application Default Credentials")
    text = "nobody: the server asks for none" if token is None else "Google gives a token"
    return Check("credentials", OK, f"{access.source}: {text}")


async def apis(around: Surroundings) -> Check:
    """Whether the APIs that the spec needs are enabled in the project."""
    needed = [name for name in NEEDED if name != "cloudkms" or around.spec.kms_key]
    states = {}
    for name in needed:
        answer = await around.client.ask("serviceusage", f"v1/{around.project}/services/{name}.googleapis.com")
        states[f"{name}.googleapis.com"] = answer.get("state")
    off = [name for name, state in states.items() if state != "ENABLED"]
    if off:
        remedy = f"gcloud services enable {' '.join(off)} --project {around.client.project_id}"
        return Check("APIs", FAILED, f"not enabled: {', '.join(off)}", remedy)
    return Check("APIs", OK, ", ".join(states))


async def rights(around: Surroundings) -> Check:
    """Whether Airflow's account may make clusters and jobs, and Dataproc answers it."""
    remedy = "give Airflow's account roles/dataproc.editor in the project"
    try:
        await around.client.get(around.client.clusters(), {"pageSize": "1"})
    except ApiError as error:
        if error.status != 403 or error.reason == "SERVICE_DISABLED":
            raise
        return Check("rights at Dataproc", FAILED, str(error), f"see that {around.project} is the one; {remedy}")
    path = f"v1/{around.project}:testIamPermissions"
    wanted = (*RIGHTS, *(POLICY_RIGHTS if _has_policy(around) else ()))
    missing = await _missing(around.client, "cloudresourcemanager", path, wanted)
    if missing:
        return Check("rights at Dataproc", FAILED, f"missing: {', '.join(missing)}", remedy)
    return Check("rights at Dataproc", OK, "Airflow's account may make clusters and jobs")


async def place(around: Surroundings) -> Check:
    """Whether region, zone and machine types are there."""
    client, compute = around.client, f"compute/v1/{around.project}"
    if (region := await _known(client, "compute", f"{compute}/regions/{client.region}")) is None:
        remedy = "gcloud compute regions list"
        return Check("region", FAILED, f"there is no region {client.region} for {around.project}", remedy)
    given = str(around.gce.get("zoneUri") or "").rpartition("/")[2]
    zones = [str(each).rpartition("/")[2] for each in region.get("zones", ())]
    if given and given not in zones:
        remedy = f"one of {', '.join(zones)}, or none"
        return Check("region", FAILED, f"{client.region} has no zone {given}", remedy)
    kinds = {group.machine_type for group in around.groups}
    named, without = sorted(kinds - {"", costs.CHOSEN}), []
    for zone in [given] if given else zones:
        for kind in named:
            if await _known(client, "compute", f"{compute}/zones/{zone}/machineTypes/{quote(kind)}") is None:
                without.append(f"zone {zone} has no machines {kind}")
                break
        else:
            text = f"zone {zone} has {', '.join(named)}{'' if given else '; Dataproc chooses the zone'}"
            if len(named) < len(kinds):
                return Check("region", UNKNOWN, f"{text}; others have no type by which to look")
            return Check("region", OK, text)
    remedy = f"gcloud compute machine-types list --zones {given or ','.join(zones)}"
    return Check("region", FAILED, "; ".join(without) or f"{client.region} has no zones", remedy)


async def subnetwork(around: Surroundings) -> Check:
    """Whether the machines' network is there, and leads to Google's APIs without a public address."""
    given = str(around.gce.get("subnetworkUri") or "default")
    path = given.partition("projects/")[2] or f"{around.client.project_id}/regions/{around.client.region}/"
    owner, region = path.split("/")[0], path.split("/")[2]
    name = given.rpartition("/")[2]
    if region != around.client.region:
        return Check("subnetwork", FAILED, f"{given} is not in {around.client.region}", "a subnetwork of that region")
    found = await _known(around.client, "compute", f"compute/v1/projects/{owner}/regions/{region}/subnetworks/{name}")
    if found is None:
        text = f"there is no subnetwork {name} in {region} of project {owner}"
        return Check("subnetwork", FAILED, text, "set DataprocCluster.subnetwork to one that is there")
    if around.gce.get("internalIpOnly") and not found.get("privateIpGoogleAccess"):
        how = f"gcloud compute networks subnets update {name} --region {region} --project {owner}"
        text = f"{name} has no Private Google Access: machines without public addresses cannot reach Dataproc"
        gives = _version(around) >= _PRIVATE_SINCE
        text += "; with this image Dataproc gives it that by itself, if it may" if gives else ""
        return Check("subnetwork", UNKNOWN if gives else FAILED, text, f"{how} --enable-private-ip-google-access")
    return Check("subnetwork", OK, f"{name} in {region} of project {owner}")


async def quota(around: Surroundings) -> Check:
    """Whether the region and the project have room for all machines."""
    project = await around.client.ask("compute", f"compute/v1/{around.project}")
    region = await around.client.ask("compute", f"compute/v1/{around.project}/regions/{around.client.region}")
    given = {each["metric"]: each for each in [*project.get("quotas", ()), *region.get("quotas", ())]}
    short, silent = shortages(around.groups, given)
    if short:
        remedy = "ask for more (console: IAM & Admin, Quotas), or take fewer or smaller machines"
        return Check("quota", FAILED, "; ".join(short), remedy)
    if silent:
        remedy = f"look yourself: gcloud compute regions describe {around.client.region}, and the quotas page"
        return Check("quota", UNKNOWN, f"the API does not tell: {', '.join(silent)}", remedy)
    if around.more:
        return Check("quota", UNKNOWN, f"there is room for those that it begins with, but {around.more}")
    return Check("quota", OK, "there is room")


async def policy(around: Surroundings) -> Check:
    """Whether the autoscaling policy is there."""
    uri = str(around.config["autoscalingConfig"]["policyUri"])
    try:
        found = await around.client.get(uri[uri.index("projects/") :])
    except ApiError as error:
        if error.status != 404:
            raise
        remedy = "make it before the cluster: DaskSetAutoscalingPolicyOperator"
        return Check("autoscaling policy", FAILED, f"there is no policy {uri}", remedy)
    return Check("autoscaling policy", OK, f"at most {found['workerConfig']['maxInstances']} workers")


async def buckets(around: Surroundings) -> Check:
    """Whether Airflow's account may read and write the buckets."""
    names = [storage.bucket(), around.spec.staging_bucket, around.spec.temp_bucket]
    for name in dict.fromkeys(filter(None, names)):
        query = urlencode([("permissions", right) for right in BUCKET_RIGHTS])
        try:
            await around.client.storage_json(f"storage/v1/b/{name}", {"fields": "name"})
        except ApiError as error:
            if error.status == 404:
                remedy = f"gcloud storage buckets create gs://{name} --location {around.client.region}"
                return Check("buckets", FAILED, f"there is no bucket {name}", remedy)
            if error.status != 403 or error.reason == "SERVICE_DISABLED":
                raise
        answer = await around.client.storage_json(f"storage/v1/b/{name}/iam/testPermissions?{query}", {})
        if missing := [right for right in BUCKET_RIGHTS if right not in answer.get("permissions", ())]:
            remedy = f"give Airflow's account {in_words(BUCKET_ROLES)} on gs://{name}, and that of the machines, too"
            return Check("buckets", FAILED, f"{name}: missing {', '.join(missing)}", remedy)
    return Check("buckets", OK, "Airflow's account reads and writes them; the machines' account is not asked")


async def account(around: Surroundings) -> Check:
    """Whether the machines' account is there, and Airflow's may start machines with it."""
    email = around.gce.get("serviceAccount") or f"{await _number(around)}-compute@developer.gserviceaccount.com"
    path = f"v1/projects/-/serviceAccounts/{quote(email)}"
    try:
        found = await _known(around.client, "iam", path)
    except ApiError as error:
        if error.status != 403 or error.reason == "SERVICE_DISABLED":
            raise
        found = {}  # who may use an account need not be allowed to look at it
    if found is None or found.get("disabled"):
        text = f"the account {email} {'is not there' if found is None else 'is disabled'}"
        return Check("service account", FAILED, text, "set DataprocCluster.service_account to one that is in use")
    if await _missing(around.client, "iam", f"{path}:testIamPermissions", ("iam.serviceAccounts.actAs",)):
        text = f"Airflow's account may not start machines with {email}"
        return Check("service account", FAILED, text, "give it roles/iam.serviceAccountUser on that account")
    return Check("service account", OK, f"machines may run as {email}; its role roles/dataproc.worker is not asked for")


async def growth(around: Surroundings) -> Check:
    """What the master of an elastic cluster needs; only its own account could ask whether it has that."""
    text = f"the machines' account needs {', '.join(ELASTIC_RIGHTS)}, or the cluster keeps its minimum: nobody asked"
    return Check("growth", UNKNOWN, text, "give it a role with these; Dataproc Worker has none of them")


async def key(around: Surroundings) -> Check:
    """Whether the key is there, in the cluster's region, in use, and Google's own accounts may encrypt with it."""
    name = str(around.spec.kms_key)
    location = name.split("/")[3]
    if _REGION.fullmatch(location) and location != around.client.region:
        return Check("KMS key", FAILED, f"{name} is not in {around.client.region}", "a key of that region")
    found = await _known(around.client, "cloudkms", f"v1/{name}")
    if found is None:
        return Check("KMS key", FAILED, f"there is no key {name}", "set DataprocCluster.kms_key to one that is there")
    state = (found.get("primary") or {}).get("state")
    if found.get("purpose") != "ENCRYPT_DECRYPT" or state != "ENABLED":
        text = f"purpose {found.get('purpose')}, primary version {state}"
        return Check("KMS key", FAILED, text, "a key of purpose ENCRYPT_DECRYPT whose primary version is enabled")
    number = await _number(around)
    policy = await around.client.ask("cloudkms", f"v1/{name}:getIamPolicy")
    may = [each for each in policy.get("bindings", ()) if each["role"] == KEY_ROLE]
    members = {member for each in may if "condition" not in each for member in each.get("members", ())}
    agents = [f"serviceAccount:service-{number}@{agent}.iam.gserviceaccount.com" for agent in AGENTS]
    if not (missing := [agent for agent in agents if agent not in members]):
        return Check("KMS key", OK, f"the service agents of {in_words(AGENTS.values())} may encrypt with it")
    text = f"no role on the key itself, but maybe one further up: {', '.join(missing)}"
    return Check("KMS key", UNKNOWN, text, f"give them {KEY_ROLE} on it")


async def export(around: Surroundings) -> Check:
    """Whether a Filestore has that address and share; of other servers nothing is known before a machine mounts."""
    nfs = around.spec.nfs_mount
    assert nfs is not None
    answer = await around.client.ask("file", f"v1/{around.project}/locations/-/instances")
    for each in answer.get("instances", ()):
        if nfs.server in [ip for network in each.get("networks", ()) for ip in network.get("ipAddresses", ())]:
            shares = [f"/{share['name']}" for share in each.get("fileShares", ())]
            name = str(each["name"]).rpartition("/")[2]
            if nfs.export not in shares:
                return Check("NFS export", FAILED, f"Filestore {name} has no {nfs.export}", f"one of {shares}")
            if each.get("state") != "READY":
                return Check("NFS export", FAILED, f"Filestore {name} is {each.get('state')}", "wait until it is READY")
            return Check("NFS export", OK, f"Filestore {name} has it; machines mount it when they start")
    text = f"no Filestore of the project has {nfs.server}: the machines find out when they start"
    return Check("NFS export", UNKNOWN, text, "try from a machine of the network: showmount -e")


async def _known(client: Client, service: str, path: str) -> Object | None:
    """What is there, ``None`` when nothing is."""
    try:
        return await client.ask(service, path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def _missing(client: Client, service: str, path: str, rights: Sequence[str]) -> list[str]:
    answer = await client.ask(service, path, {"permissions": list(rights)})
    return [right for right in rights if right not in answer.get("permissions", ())]


async def _number(around: Surroundings) -> str:
    return str((await around.client.ask("cloudresourcemanager", f"v1/{around.project}"))["projectNumber"])


def _version(around: Surroundings) -> tuple[int, ...]:
    """Of the image: ``(2, 2)``; nothing for one of the user's own."""
    software = around.config.get("softwareConfig") or {}
    found = re.match(r"(\d+)\.(\d+)", str(software.get("imageVersion") or ""))
    return tuple(int(number) for number in found.groups()) if found else ()


def _always(around: Surroundings) -> bool:
    return True


def _has_policy(around: Surroundings) -> bool:
    return bool((around.config.get("autoscalingConfig") or {}).get("policyUri"))


Question = tuple[str, Callable[[Surroundings], Awaitable[Check]], Callable[[Surroundings], bool]]
#: name, question, whether the spec raises it
CHECKS: tuple[Question, ...] = (
    ("APIs", apis, _always),
    ("rights at Dataproc", rights, _always),
    ("region", place, _always),
    ("subnetwork", subnetwork, lambda around: not around.gce.get("networkUri")),
    ("quota", quota, _always),
    ("autoscaling policy", policy, _has_policy),
    ("buckets", buckets, _always),
    ("service account", account, _always),
    ("growth", growth, lambda around: around.spec.elastic),
    ("KMS key", key, lambda around: bool(around.spec.kms_key)),
    ("NFS export", export, lambda around: around.spec.nfs_mount is not None),
)
