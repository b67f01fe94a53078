"""What a cluster needs of a project, asked before one is made: each check with its own remedy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc import costs
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.dataproc.clusters import access_of, project_of
from dask_provider.hooks.dataproc.jobs import DataprocHook
from dask_provider.hooks.dataproc.preflight_checks import (
    CHECKS,
    FAILED,
    NEEDED,
    OK,
    UNKNOWN,
    Check,
    Surroundings,
    credentials,
)
from dask_provider.hooks.dataproc.prices import UnknownCost
from dask_provider.owner import Owner

#: seconds that one question may take with all its tries
PATIENCE = 15.0
_SERVICE = re.compile(r"([a-z]+)\.googleapis\.com")


async def preflight(spec: DataprocCluster) -> list[Check]:
    """All checks of a spec, in the order in which they are best mended.

    :raises InvalidInput: when the spec itself cannot be used.
    """
    try:
        access = await access_of(spec.conn_id)
        project_id = project_of(spec, access)
    except InvalidInput as error:
        remedy = "an Airflow connection with a key, or without one where there are Application Default Credentials"
        return [Check("credentials", FAILED, str(error), remedy)]
    spec = replace(spec, project_id=project_id)
    request = DataprocHook().plan(spec, Owner("preflight", "preflight", "preflight", "preflight"))["POST clusters"]
    signed_in = await credentials(access)
    if signed_in.state != OK:
        return [signed_in]
    async with Client(access, project_id, spec.region, patience=PATIENCE) as client:
        around = Surroundings(client, spec, request["config"], *await _machines(client, request))
        found = [_asked(name, check, around) for name, check, applies in CHECKS if applies(around)]
        return [signed_in, *await asyncio.gather(*found), await _costs(client, spec, request)]


async def _asked(name: str, check: Callable[[Surroundings], Awaitable[Check]], around: Surroundings) -> Check:
    """What a check says, or why it cannot say anything."""
    try:
        return await check(around)
    except InvalidInput as error:
        return Check(name, FAILED, str(error))
    except ApiError as error:
        if error.reason == "SERVICE_DISABLED":
            service = _SERVICE.search(str(error))
            needed = service is not None and service[1] in NEEDED
            remedy = f"gcloud services enable {service[0] if service else ''} --project {around.client.project_id}"
            return Check(name, FAILED if needed else UNKNOWN, str(error), remedy)
        remedy = "let Airflow's account look: roles/viewer is enough" if error.status == 403 else ""
        return Check(name, UNKNOWN, f"it cannot be asked: {error}", remedy)


async def _costs(client: Client, spec: DataprocCluster, request: Object) -> Check:
    try:
        said = costs.check(spec, request, await costs.load(), await costs.policy_of(client, request["config"]))
    except InvalidInput as error:
        return Check("costs", FAILED, str(error))
    return Check("costs", UNKNOWN if said.startswith("cost unknown") else OK, said)


async def _machines(client: Client, request: Object) -> tuple[Sequence[costs.Group], str]:
    """All that it may come to have, as far as that is known; and why it is not."""
    try:
        return costs.most_machines(request, await costs.policy_of(client, request["config"])), ""
    except UnknownCost as error:
        return costs.machines(request["config"]), str(error)
