"""Whether a region has room: what machines use up of its quotas. Pure.

https://cloud.google.com/compute/resource-usage
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dask_provider.clusters.dataproc_fields import Machines
from dask_provider.hooks.dataproc.costs import LOCAL_SSD, Group

#: families whose CPUS count together; all others have a quota of their own, such as ``N2_CPUS``
_TOGETHER = ("e2", "n1")
_DISKS = {"pd-standard": "DISKS_TOTAL_GB", "pd-balanced": "SSD_TOTAL_GB", "pd-ssd": "SSD_TOTAL_GB"}
Given = Mapping[str, Mapping[str, Any]]


def shortages(groups: Sequence[Group], given: Given) -> tuple[list[str], list[str]]:
    """What there is too little of, in words; and of what nobody knows how much there is, or how much is wanted.

    :param given: quotas of the API by metric, each with ``limit`` and ``usage``.
    """
    wanted: Counter[str] = Counter()
    unknown = set()
    for group in groups:
        cpus = Machines(group.machine_type).cpus
        for metric, each in _uses(group, cpus or 0, given).items():
            wanted[metric] += group.count * each
            if metric not in given or (cpus is None and metric.endswith(("CPUS", "CPUS_ALL_REGIONS"))):
                unknown.add(metric)
    short = []
    for metric, count in wanted.items():
        limit, left = _limit(given, metric), _limit(given, metric) - float(given.get(metric, {}).get("usage") or 0)
        if metric not in unknown and count > left:
            short.append(f"{metric}: {count} wanted, {max(0.0, left):g} left of {limit:g}")
    return short, sorted(unknown)


def _uses(group: Group, cpus: int, given: Given) -> dict[str, int]:
    """What one machine uses up, by metric."""
    family = group.machine_type.partition("-")[0]
    plain = "CPUS" if family in _TOGETHER else f"{family.upper()}_CPUS"
    metric = _spot("PREEMPTIBLE_CPUS", plain, group, given)
    uses = {"INSTANCES": 1, metric: cpus, _DISKS.get(group.disk_type, f"disks {group.disk_type}"): group.disk_gb}
    if not group.spot:
        uses["CPUS_ALL_REGIONS"] = cpus
    if group.local_ssds:
        metric = _spot("PREEMPTIBLE_LOCAL_SSD_GB", "LOCAL_SSD_TOTAL_GB", group, given)
        uses[metric] = group.local_ssds * LOCAL_SSD
    if group.public:
        uses["IN_USE_ADDRESSES"] = 1
    return uses


def _spot(own: str, plain: str, group: Group, given: Given) -> str:
    """Spot machines use the quota of all others as long as they have none of their own."""
    return own if group.spot and _limit(given, own) > 0 else plain


def _limit(given: Given, metric: str) -> float:
    return float(given.get(metric, {}).get("limit") or 0)
