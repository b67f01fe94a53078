"""What a cluster costs: by its machines, as they are asked for or as they are, and a table of prices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.config import dataproc_prices
from dask_provider.errors import InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.cost import Cost
from dask_provider.hooks.dataproc import requests
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.dataproc.prices import FIELD, Prices, UnknownCost, load_prices

#: where a configuration has its machines, and what they are called
_GROUPS = {"masterConfig": "masters", "workerConfig": "workers", "secondaryWorkerConfig": "secondary workers"}
#: what costs, too, and has no place in a table
_OTHER = {"accelerators": "accelerators", "instanceFlexibilityPolicy": "machines of changing types"}
#: instead of a machine type
CHOSEN = "the machine type that Dataproc chooses"
#: GB of a local SSD
LOCAL_SSD = 375
#: seconds for the table of prices
LOADED_WITHIN = 20.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """Machines of one kind in a cluster, with all that they cost.

    :param name: in messages.
    :param count: how many.
    :param spot: whether they are sold at the price of spot machines.
    :param public: whether each has a public address.
    :param other: what else they have that no table prices; empty: nothing.
    """

    name: str
    count: int
    machine_type: str
    disk_type: str
    disk_gb: int
    local_ssds: int = 0
    spot: bool = False
    public: bool = False
    other: str = ""

    def per_hour(self, region: str, prices: Prices) -> float:
        """All of them, in the table's currency an hour.

        :raises UnknownCost: naming what has no price.
        """
        if self.other:
            raise UnknownCost(f"no table has a price of {self.other} ({self.name})")
        cpus, each = prices.machine(region, self.machine_type, spot=self.spot)
        each += prices.dataproc(cpus) + prices.disk(region, self.disk_type, self.disk_gb)
        if self.local_ssds:
            each += prices.disk(region, "local-ssd", self.local_ssds * LOCAL_SSD)
        return self.count * (each + (prices.address() if self.public else 0.0))


def machines(config: Mapping[str, Any]) -> list[Group]:
    """All machines of a configuration in the words of the API: of a request, or of a cluster that is there. Pure."""
    return [group for group in _groups(config) if group.count]


def _groups(config: Mapping[str, Any]) -> list[Group]:
    """Those, too, that have no machines yet, but say of what kind they will be."""
    public = not (config.get("gceClusterConfig") or {}).get("internalIpOnly")
    found = []
    for key, name in _GROUPS.items():
        group = config.get(key) or {}
        count = int(group.get("numInstances") or 0)
        if not (count or any(group.get(field) for field in ("machineTypeUri", *_OTHER))):
            continue
        disk = group.get("diskConfig") or {}
        other = [words for field, words in _OTHER.items() if group.get(field)]
        other += [f"the size or type of the boot disk of {name}"] if not _whole(disk) else []
        made = Group(
            name,
            count,
            str(group.get("machineTypeUri") or CHOSEN).rpartition("/")[2],
            str(disk.get("bootDiskType") or "").rpartition("/")[2],
            int(disk.get("bootDiskSizeGb") or 0),
            int(disk.get("numLocalSsds") or 0),
            key == "secondaryWorkerConfig" and group.get("preemptibility") != "NON_PREEMPTIBLE",
            public,
            ", ".join(other),
        )
        found.append(made)
    if config.get("auxiliaryNodeGroups"):
        found.append(Group("auxiliary node groups", 1, "", "", 0, other="auxiliary node groups"))
    return found


def _whole(disk: Mapping[str, Any]) -> bool:
    return bool(disk.get("bootDiskType") and disk.get("bootDiskSizeGb") and not disk.get("attachedDiskConfigs"))


def cost_per_hour(groups: Sequence[Group], region: str, prices: Prices) -> float:
    """All machines with their disks and Dataproc's charge, in the table's currency an hour. Pure.

    :raises UnknownCost: naming everything that has no price; nothing counts as zero.
    """
    total, missing = 0.0, []
    for group in groups:
        try:
            total += group.per_hour(region, prices)
        except UnknownCost as error:
            missing.append(str(error))
    if missing:
        raise UnknownCost("; ".join(dict.fromkeys(missing)))
    return total


def most_machines(cluster: Mapping[str, Any], policy: Mapping[str, Any] | None) -> list[Group]:
    """As many as a cluster may come to have, of each kind. Pure.

    :param cluster: the body of a request, with the user's overrides, or a cluster that is there.
    :param policy: its autoscaling policy.
    :raises UnknownCost: when it has a policy that is not known.
    """
    config = cluster["config"]
    groups, limits = {group.name: group for group in _groups(config)}, {}
    workers, secondary = _GROUPS["workerConfig"], _GROUPS["secondaryWorkerConfig"]
    if workers in groups and (text := (cluster.get("labels") or {}).get(requests.LIMITS)):
        limits[secondary] = int(text.rpartition("-")[2]) - groups[workers].count  # the primary ones stay
    if uri := _policy(config):
        if policy is None:
            raise UnknownCost(f"the autoscaling policy {uri} decides how many machines there are")
        limits[workers] = int((policy.get("workerConfig") or {}).get("maxInstances") or 0)
        limits[secondary] = int((policy.get("secondaryWorkerConfig") or {}).get("maxInstances") or 0)
    if limits.get(secondary) and workers in groups:
        # Which Dataproc makes like the others, unless it is told otherwise.
        alike = replace(groups[workers], name=secondary, count=0, spot=True)
        groups.setdefault(secondary, alike)
    grown = [replace(group, count=max(group.count, limits.get(name, 0))) for name, group in groups.items()]
    return [group for group in grown if group.count]


def most(cluster: Mapping[str, Any], region: str, prices: Prices, policy: Mapping[str, Any] | None = None) -> float:
    """What a cluster can cost at most, in the table's currency: all machines that it may have, for all of its lifetime.

    See :func:`most_machines`. Pure.

    :raises UnknownCost: naming what has no price.
    """
    return cost_per_hour(most_machines(cluster, policy), region, prices) * lifetime(cluster["config"]) / 3600


def lifetime(config: Mapping[str, Any]) -> float:
    """Seconds after which Dataproc ends such a cluster, whatever it does."""
    lifecycle = config.get("lifecycleConfig") or {}
    if (text := lifecycle.get("autoDeleteTtl")) is not None:
        return float(str(text).removesuffix("s"))
    moment = str(lifecycle["autoDeleteTime"]).replace("Z", "+00:00")
    return max(0.0, (datetime.fromisoformat(moment) - datetime.now(timezone.utc)).total_seconds())


def check(
    spec: DataprocCluster, request: Mapping[str, Any], prices: Prices, policy: Mapping[str, Any] | None = None
) -> str:
    """The estimate in words, for the log.

    :raises InvalidInput: when it could cost more than ``max_cost``, or nobody knows.
    """
    field, hours = "DataprocCluster.max_cost", lifetime(request["config"]) / 3600
    try:
        an_hour = cost_per_hour(machines(request["config"]), spec.region, prices)
        whole = most(request, spec.region, prices, policy)
    except UnknownCost as error:
        if spec.max_cost is not None:
            allowed = f"None, or prices of everything in [dask] dataproc_prices: {error}"
            raise InvalidInput(field, spec.max_cost, allowed) from None
        return f"cost unknown: {error}"
    text = f"{an_hour:.2f} {prices.currency} an hour, at most {whole:.2f} {prices.currency} in {hours:g} h"
    if spec.max_cost is not None and whole > float(spec.max_cost):
        allowed = f"at least {whole:.2f} {prices.currency} for these machines, or fewer or smaller ones, or a shorter "
        raise InvalidInput(field, spec.max_cost, f"{allowed}max_lifetime: {text} ({_basis(prices)})")
    return f"{text} ({_basis(prices)})"


async def estimate(client: Client, spec: DataprocCluster, request: Mapping[str, Any]) -> None:
    """Write into the log what the cluster will cost.

    :raises InvalidInput: see :func:`check`.
    """
    try:
        said = check(spec, request, await load(), await policy_of(client, request["config"]))
    except InvalidInput as error:
        if spec.max_cost is not None:
            raise
        said = f"cost unknown: {error}"
    logger.info("cluster %s: %s", request["clusterName"], said)


def noted(cluster: Mapping[str, Any]) -> list[Object]:
    """The machines of a cluster as its handle carries them, for when Dataproc has forgotten it."""
    if _policy(cluster["config"]):
        other = "what an autoscaling policy has made"
        return [asdict(Group("machines", 1, "", "", 0, other=other))]
    return [asdict(group) for group in most_machines(cluster, None)]


async def cost(client: Client, handle: ClusterHandle, found: Mapping[str, Any] | None) -> Cost:
    """What a cluster that ends has cost.

    Dataproc keeps no record of how many machines there were when: the most that we know of count for the whole time.

    :param found: what Dataproc has by its name, ``None`` once there is nothing.
    """
    if found is not None and found["clusterUuid"] != handle.uid:
        found = None
    prices, gone = await load(), found is None
    before = [Group(**each) for each in handle.details.get("machines") or ()]
    counts = {group.name: group.count for group in before}
    try:
        groups, loose = before, gone
        if found is not None:
            groups = most_machines(found, await policy_of(client, found["config"]))
            now = {group.name: group.count for group in machines(found["config"])}
            # Secondary machines come when there is room, and may be taken away.
            loose = now != counts or _GROUPS["secondaryWorkerConfig"] in now or bool(_policy(found["config"]))
            groups = [replace(group, count=max(group.count, counts.get(group.name, 0))) for group in groups]
        if not groups:
            raise UnknownCost("nobody knows which machines it had")
        an_hour = cost_per_hour(groups, handle.details["region"], prices)
    except UnknownCost as error:
        return Cost(None, prices.currency, str(handle.created), str(error), at_most=gone)
    ended = handle.expires if gone else None
    return Cost(round(an_hour, 6), prices.currency, str(handle.created), _basis(prices), ended, loose)


async def policy_of(client: Client, config: Mapping[str, Any]) -> Object | None:
    """The autoscaling policy of a cluster, if it has one that can be read."""
    if (uri := _policy(config)) is None:
        return None
    try:
        return await client.get(uri[uri.index("projects/") :])
    except ApiError as error:
        logger.warning("autoscaling policy %s: %s", uri, error)
        return None


def _policy(config: Mapping[str, Any]) -> str | None:
    uri = (config.get("autoscalingConfig") or {}).get("policyUri")
    return str(uri) if uri else None


def _basis(prices: Prices) -> str:
    return f"list prices of {prices.date} from {prices.where}, without network, storage, discounts and taxes"


async def load() -> Prices:
    """The table, read outside the event loop, which a file or a connection of Airflow would block.

    :raises InvalidInput: when it is no such table, or does not come.
    """
    from asgiref.sync import sync_to_async

    # Not in the one thread that connections are read in: a storage that hangs would keep that for good.
    reading = sync_to_async(load_prices, thread_sensitive=False)
    try:
        prices: Prices = await asyncio.wait_for(reading(), LOADED_WITHIN)
    except asyncio.TimeoutError:
        raise InvalidInput(FIELD, dataproc_prices(), f"a file that is read in {LOADED_WITHIN:.0f} s") from None
    return prices
