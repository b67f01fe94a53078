"""The other APIs of a project, as far as one asks them before a cluster is made: read-only.

Service Usage, Resource Manager, Compute Engine, IAM, Cloud KMS, Filestore, and rights on buckets. What the project has
is the setting ``project``; names and answers are those of the APIs.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from tests.servers.dataproc.errors import ApiError, not_found
from tests.servers.dataproc.world import World

#: what a project has, unless the setting ``project`` says otherwise
PROJECT: dict[str, Any] = {
    "number": "415104041262",
    # APIs that are not enabled
    "disabled": [],
    # permissions that the caller lacks: what needs them is refused, and no test of permissions gives them
    "denied": [],
    # [usage, limit], for the project and its regions
    "quotas": {"CPUS_ALL_REGIONS": [0, 500]},
    "regional_quotas": {
        "CPUS": [0, 200],
        "N2_CPUS": [0, 200],
        "N2D_CPUS": [0, 200],
        "PREEMPTIBLE_CPUS": [0, 0],
        "INSTANCES": [0, 500],
        "DISKS_TOTAL_GB": [0, 20000],
        "SSD_TOTAL_GB": [0, 5000],
        "LOCAL_SSD_TOTAL_GB": [0, 10000],
        "PREEMPTIBLE_LOCAL_SSD_GB": [0, 0],
        "IN_USE_ADDRESSES": [0, 16],
    },
    "regions": {"europe-west1": ["europe-west1-b", "europe-west1-c", "europe-west1-d"], "us-central1": []},
    "machine_types": ["n1-standard-4", "n2-standard-2", "n2-standard-4", "n2-standard-8", "e2-standard-4"],
    # by zone: which of these it does not have
    "absent": {},
    # by region/name
    "subnetworks": {
        "europe-west1/default": {"privateIpGoogleAccess": False},
        "europe-west1/services": {"privateIpGoogleAccess": True},
    },
    "accounts": {
        "415104041262-compute@developer.gserviceaccount.com": {},
        "runner@dask-tests.iam.gserviceaccount.com": {},
        "old@dask-tests.iam.gserviceaccount.com": {"disabled": True},
    },
    # by name
    "keys": {},
    "filestores": {"shared": {"ip": "10.9.8.7", "shares": ["export"], "state": "READY"}},
}
_RESOURCE = "//{service}/{resource}"


@dataclass(frozen=True)
class Asked:
    """:param service: ``compute.googleapis.com``.
    :param method: ``compute.regions.get``, for faults and counts.
    :param resource: as its API names it.
    :param permission: needed for it; empty: none.
    """

    world: World
    request: web.Request
    service: str
    method: str
    resource: str
    permission: str

    @property
    def has(self) -> dict[str, Any]:
        return {**PROJECT, **self.world.settings.project}

    def path(self, name: str) -> str:
        return self.request.match_info.get(name, "")

    def there(self, found: Any) -> Any:
        """:raises ApiError: NOT_FOUND, without it."""
        if found is None:
            if self.service == "compute.googleapis.com":
                raise ApiError("NOT_FOUND", f"The resource '{self.resource}' was not found")
            raise not_found("Resource", self.resource)
        return found


Answer = Callable[[Asked], Awaitable[dict[str, Any]]]


def check_enabled(world: World, service: str) -> None:
    """:raises ApiError: the project does not use that API."""
    has = {**PROJECT, **world.settings.project}
    if service in has["disabled"]:
        metadata = {"service": service, "consumer": f"projects/{has['number']}"}
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"}
        text = (
            f"{service} has not been used in project {has['number']} before or it is disabled. Enable it, then retry."
        )
        raise ApiError("PERMISSION_DENIED", text, [{**info, "domain": "googleapis.com", "metadata": metadata}])


def add_neighbours(app: web.Application, world: World, gcs_url: str) -> None:
    """:param app: gets the routes."""
    project, compute = "projects/{project:[^/:]+}", "projects/{project}"
    account = "projects/-/serviceAccounts/{email:[^/:]+}"
    key = "{key:projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/:]+}"
    app[_GCS] = gcs_url
    for verb, service, version, resource, method, permission, function in (
        ("GET", "serviceusage", "/v1", f"{project}/services/{{name}}", "services.get", "services.get", _service),
        ("GET", "cloudresourcemanager", "/v1", project, "projects.get", "projects.get", _project),
        ("POST", "cloudresourcemanager", "/v1", project, "projects.testIamPermissions", "", _permissions),
        ("GET", "compute", "/compute/v1", compute, "projects.get", "projects.get", _compute_project),
        ("GET", "compute", "/compute/v1", f"{compute}/regions/{{region}}", "regions.get", "regions.get", _region),
        (
            *("GET", "compute", "/compute/v1", f"{compute}/zones/{{zone}}/machineTypes/{{name}}"),
            *("machineTypes.get", "machineTypes.get", _machine_type),
        ),
        (
            *("GET", "compute", "/compute/v1", f"{compute}/regions/{{region}}/subnetworks/{{name}}"),
            *("subnetworks.get", "subnetworks.get", _subnetwork),
        ),
        ("GET", "iam", "/v1", account, "serviceAccounts.get", "serviceAccounts.get", _account),
        ("POST", "iam", "/v1", account, "serviceAccounts.testIamPermissions", "", _account_permissions),
        ("GET", "cloudkms", "/v1", key, "cryptoKeys.get", "cryptoKeys.get", _key),
        ("GET", "cloudkms", "/v1", key, "cryptoKeys.getIamPolicy", "cryptoKeys.getIamPolicy", _key_policy),
        ("GET", "file", "/v1", f"{project}/locations/-/instances", "instances.list", "instances.list", _filestores),
        ("GET", "storage", "/storage/v1", "b/{bucket}", "buckets.get", "buckets.get", _bucket),
        (
            *("GET", "storage", "/storage/v1", "b/{bucket}/iam/testPermissions"),
            *("buckets.testIamPermissions", "", _bucket_permissions),
        ),
    ):
        custom = f":{method.partition('.')[2]}" if verb == "POST" or method.endswith(".getIamPolicy") else ""
        names = (f"{service}.googleapis.com", f"{service}.{method}", f"{service}.{permission}" if permission else "")
        app.router.add_route(verb, f"{version}/{resource}{custom}", _handler(world, *names, function))


_GCS = web.AppKey("gcs_url", str)


def _handler(
    world: World, service: str, method: str, permission: str, function: Answer
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        world.calls[method] += 1
        resource = request.path.lstrip("/").partition("v1/")[2].rpartition(":")
        asked = Asked(world, request, service, method, resource[0] or resource[2], permission)
        try:
            check_enabled(world, service)
            if fault := world.faults.strike("refuse", method, asked.resource):
                raise fault.error(asked.resource)
            if permission and permission in asked.has["denied"]:
                where = _RESOURCE.format(service=service, resource=asked.resource)
                raise ApiError("PERMISSION_DENIED", f"Required '{permission}' permission for '{where}'")
            return web.json_response(await function(asked))
        except ApiError as error:
            return web.json_response(_shown(service, error), status=error.http_status)

    return handle


def _shown(service: str, error: ApiError) -> dict[str, Any]:
    """Compute Engine and Cloud Storage have another form of errors, with reasons of their own."""
    answer = error.answer()
    if service.partition(".")[0] in ("compute", "storage"):
        disabled = any(each.get("reason") == "SERVICE_DISABLED" for each in error.details)
        reasons = {"NOT_FOUND": "notFound", "PERMISSION_DENIED": "accessNotConfigured" if disabled else "forbidden"}
        told = {"message": error.message, "domain": "global", "reason": reasons.get(error.code, "backendError")}
        answer = {"error": {"code": error.http_status, "message": error.message, "errors": [told]}}
    return answer


async def _granted(asked: Asked, wanted: list[str]) -> dict[str, Any]:
    granted = [name for name in wanted if name not in asked.has["denied"]]
    return {"permissions": granted} if granted else {}


async def _wanted(asked: Asked) -> list[str]:
    return list(json.loads(await asked.request.text() or "{}").get("permissions", []))


async def _service(asked: Asked) -> dict[str, Any]:
    name = asked.path("name")
    state = "DISABLED" if name in asked.has["disabled"] else "ENABLED"
    return {"name": f"projects/{asked.has['number']}/services/{name}", "config": {"name": name}, "state": state}


async def _project(asked: Asked) -> dict[str, Any]:
    known = asked.world.settings.projects
    if known and asked.path("project") not in known:
        raise ApiError("PERMISSION_DENIED", "The caller does not have permission")
    return {
        "projectId": asked.path("project"),
        "projectNumber": asked.has["number"],
        "lifecycleState": "ACTIVE",
    }


async def _permissions(asked: Asked) -> dict[str, Any]:
    return await _granted(asked, await _wanted(asked))


def _quotas(given: dict[str, list[float]]) -> list[dict[str, Any]]:
    return [{"metric": name, "usage": float(used), "limit": float(most)} for name, (used, most) in given.items()]


async def _compute_project(asked: Asked) -> dict[str, Any]:
    return {"kind": "compute#project", "name": asked.path("project"), "quotas": _quotas(asked.has["quotas"])}


async def _region(asked: Asked) -> dict[str, Any]:
    name = asked.path("region")
    zones = asked.there(asked.has["regions"].get(name))
    link = f"https://www.googleapis.com/compute/v1/projects/{asked.path('project')}/zones"
    quotas = _quotas(asked.has["regional_quotas"])
    there = {"kind": "compute#region", "name": name, "status": "UP", "zones": [f"{link}/{zone}" for zone in zones]}
    return {**there, "quotas": quotas}


async def _machine_type(asked: Asked) -> dict[str, Any]:
    name = asked.path("name")
    here = name not in asked.has["absent"].get(asked.path("zone"), ())
    asked.there(name if here and name in asked.has["machine_types"] else None)
    return {"kind": "compute#machineType", "name": name, "zone": asked.path("zone")}


async def _subnetwork(asked: Asked) -> dict[str, Any]:
    name = asked.path("name")
    found = asked.there(asked.has["subnetworks"].get(f"{asked.path('region')}/{name}"))
    return {"kind": "compute#subnetwork", "name": name, "purpose": "PRIVATE", **found}


async def _account(asked: Asked) -> dict[str, Any]:
    email = asked.path("email")
    found = asked.there(asked.has["accounts"].get(email))
    return {"name": f"projects/{asked.has['number']}/serviceAccounts/{email}", "email": email, **found}


async def _account_permissions(asked: Asked) -> dict[str, Any]:
    asked.there(asked.has["accounts"].get(asked.path("email")))
    return await _granted(asked, await _wanted(asked))


async def _key(asked: Asked) -> dict[str, Any]:
    found = asked.there(asked.has["keys"].get(asked.path("key")))
    version = {"name": f"{asked.path('key')}/cryptoKeyVersions/1", "state": found.get("state", "ENABLED")}
    return {"name": asked.path("key"), "purpose": found.get("purpose", "ENCRYPT_DECRYPT"), "primary": version}


async def _key_policy(asked: Asked) -> dict[str, Any]:
    found = asked.there(asked.has["keys"].get(asked.path("key")))
    return {"version": 1, "bindings": found.get("bindings", [])}


async def _filestores(asked: Asked) -> dict[str, Any]:
    place = f"projects/{asked.path('project')}/locations/europe-west1-b/instances"
    instances = [
        {
            "name": f"{place}/{name}",
            "state": each["state"],
            "fileShares": [{"name": share, "capacityGb": "1024"} for share in each["shares"]],
            "networks": [{"network": "default", "ipAddresses": [each["ip"]]}],
        }
        for name, each in asked.has["filestores"].items()
    ]
    return {"instances": instances} if instances else {}


async def _bucket(asked: Asked) -> dict[str, Any]:
    address = f"{asked.request.app[_GCS].rstrip('/')}/storage/v1/b/{asked.path('bucket')}"
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        if answer.status == 404:
            raise ApiError("NOT_FOUND", "The specified bucket does not exist.")
    return {"kind": "storage#bucket", "name": asked.path("bucket")}


async def _bucket_permissions(asked: Asked) -> dict[str, Any]:
    await _bucket(asked)
    return await _granted(asked, asked.request.query.getall("permissions", []))
