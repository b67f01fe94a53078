"""All that can be known before anything is created."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from dask_provider import config
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks.kubernetes import paths as api
from dask_provider.hooks.kubernetes import quota
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError
from dask_provider.hooks.kubernetes.objects import Object
from dask_provider.hooks.kubernetes.rights import check_rights

logger = logging.getLogger(__name__)


def check_staging() -> None:
    """:raises InvalidInput: when pods would leave results where Airflow never finds them."""
    if config.staging_is_default():
        allowed = "a URI that pods and Airflow reach: s3://bucket/prefix, gs://…, or file:///… of a shared volume"
        raise InvalidInput("[dask] staging", config.staging(), allowed)


async def preflight(k: Client, namespace: str, lease: Object, cluster: Object, groups: Sequence[Object]) -> None:
    """All that can be known before anything is created.

    :raises ClusterFailed: naming the remedy.
    :raises InvalidInput: for what the API server would not take, or take only in part.
    """
    try:
        served = {kind["name"] for kind in (await k.get("/apis/kubernetes.dask.org/v1"))["resources"]}
    except ApiError as error:
        if error.status != 404:
            raise
        served = set()
    missing = {"daskclusters", "daskworkergroups", "daskautoscalers"} - served
    if missing:
        raise ClusterFailed(
            f"the API server does not know {', '.join(sorted(missing))}; allowed: a Kubernetes with the Dask operator "
            "and its CRDs (helm install --repo https://helm.dask.org dask-kubernetes-operator), 2024.3 or newer"
        )
    optional = await check_rights(k, namespace)
    made_of_groups = ((api.daskworkergroups(namespace), group) for group in groups)
    for path, wanted in ((api.jobs(namespace), lease), (api.daskclusters(namespace), cluster), *made_of_groups):
        try:
            made = await k.create(path, wanted, dry_run=True)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                continue  # whose it is will be seen
            if error.reason == "NotFound":
                raise InvalidInput(
                    "KubernetesCluster.namespace", namespace, f"a namespace that exists ({error})"
                ) from error
            if error.status in (400, 422):
                raise InvalidInput(
                    f"KubernetesCluster ({wanted['kind']})", wanted["metadata"]["name"], str(error)
                ) from error
            raise ClusterFailed(f"{wanted['kind']} {wanted['metadata']['name']} cannot be created: {error}") from error
        if lost := dropped(wanted, made):
            raise ClusterFailed(
                f"the API server drops {', '.join(lost)} of the {wanted['kind']}: its CRDs are too old; "
                "replace them by those of a newer Dask operator (helm upgrades no CRDs)"
            )
    # The operator is not asked for: nothing that may be read in the namespace tells whether it lives.
    if ("", "resourcequotas", "list") in optional:
        quotas = (await k.list(api.resourcequotas(namespace)))["items"]
        for shortage in quota.check(quotas, lease, cluster, groups):
            logger.warning("cluster %s waits until others end: %s", cluster["metadata"]["name"], shortage)


def dropped(wanted: Any, made: Any, where: str = "") -> list[str]:
    """Paths of what was sent and did not come back. Pure."""
    if isinstance(wanted, Mapping):
        lost = []
        for key, value in wanted.items():
            here = f"{where}.{key}" if where else str(key)
            if value in (None, {}, []):
                continue
            if not isinstance(made, Mapping) or key not in made:
                lost.append(here)
            else:
                lost += dropped(value, made[key], here)
        return lost
    if isinstance(wanted, list) and isinstance(made, list):
        # Others may have added to it (webhooks of a cloud or a mesh), anywhere.
        named = {each.get("name"): each for each in made if isinstance(each, Mapping)}
        lost = []
        for number, each in enumerate(wanted):
            name = each.get("name") if isinstance(each, Mapping) else None
            there = named.get(name) if name else made[number] if number < len(made) else None
            lost += (
                dropped(each, there, f"{where}[{name or number}]")
                if there is not None
                else [f"{where}[{name or number}]"]
            )
        return lost
    return []
