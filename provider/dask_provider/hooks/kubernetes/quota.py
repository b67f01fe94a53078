"""Whether a cluster fits into the quotas of its namespace, asked before it is made. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes.objects import Object, note

#: amounts by the names that a quota has for them
Amounts = dict[str, Decimal]

_QUANTITY = re.compile(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)([numkMGTPE]|[KMGTPE]i)?")
_UNITS = {
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("num", start=-3)},
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}
#: short names of quotas
_SAME = {"cpu": "requests.cpu", "memory": "requests.memory", "count/pods": "pods"}


@dataclass(frozen=True)
class Shortage:
    """What does not fit.

    :param name: of the resource, such as ``requests.memory``.
    :param asked: how much, and by whom.
    :param left: how much there is, and of which quota.
    :param never: more than the whole quota; otherwise others have taken it for now.
    """

    name: str
    asked: str
    left: str
    never: bool


def check(quotas: Iterable[Mapping[str, Any]], lease: Object, cluster: Object, groups: Sequence[Object]) -> list[str]:
    """What does not fit now but may when others have ended, in words.

    :param quotas: the ResourceQuotas of the namespace.
    :raises InvalidInput: when scheduler, least workers, lease and one job can never run at the same time.
    """
    found = shortages(quotas, pods(lease, cluster, groups))
    for shortage in found:
        if shortage.never:
            raise InvalidInput(
                "KubernetesCluster.workers, .worker_resources, .scheduler_resources, .job_resources",
                f"{shortage.name} of {shortage.asked}",
                f"at most {shortage.left}",
            )
    return [f"{shortage.name}: it needs {shortage.asked}, there is {shortage.left}" for shortage in found]


def pods(lease: Object, cluster: Object, groups: Sequence[Object]) -> list[tuple[str, int, Amounts]]:
    """Kinds of pods without which no job runs: name, number, and what each asks for.

    :param lease: the Job, as :func:`dask_provider.hooks.kubernetes.manifests.lease` makes it.
    :param groups: the further DaskWorkerGroups.
    """
    known = json.loads(note(lease, "handle") or "{}")
    spec = cluster["spec"]
    workers = [
        (name, int(worker["replicas"]), amounts(worker["spec"]))
        for name, worker in (
            ("worker", spec["worker"]),
            *((group["metadata"]["name"], group["spec"]["worker"]) for group in groups),
        )
    ]
    least = int(known["min_workers"])
    if least < sum(number for _, number, _ in workers):  # which of them come first, nobody knows
        asked = [each for _, _, each in workers]
        names = set.intersection(*(set(each) for each in asked))
        workers = [("worker", least, {name: min(each[name] for each in asked) for name in names})]
    return [
        ("lease", 1, amounts(lease["spec"]["template"]["spec"])),
        ("scheduler", 1, amounts(spec["scheduler"]["spec"])),
        ("job", 1, amounts({"containers": [{"resources": known["job_resources"]}]})),
        *workers,
    ]


def amounts(pod: Mapping[str, Any]) -> Amounts:
    """What a quota counts of a pod."""
    containers, before = (
        [_of_container(each) for each in pod.get(kind) or ()] for kind in ("containers", "initContainers")
    )
    found: Amounts = {"pods": Decimal(1)}
    for name in {name for each in (*containers, *before) for name in each}:
        together = sum((each.get(name, Decimal(0)) for each in containers), Decimal(0))
        found[name] = max([together, *(each.get(name, Decimal(0)) for each in before)])
    return found


def _of_container(container: Mapping[str, Any]) -> Amounts:
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    parts = {"limits": limits, "requests": {**limits, **(resources.get("requests") or {})}}
    return {f"{part}.{name}": quantity(amount) for part, of in parts.items() for name, amount in of.items()}


def shortages(quotas: Iterable[Mapping[str, Any]], kinds: Sequence[tuple[str, int, Amounts]]) -> list[Shortage]:
    """What does not fit. A quota for some pods only (scopes) is passed over: which ones, the API server decides."""
    found = []
    for quota in quotas:
        spec, status = quota["spec"], quota.get("status") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        for name, most in (spec.get("hard") or {}).items():
            counted = _SAME.get(name, name)
            wanted = [(kind, number, each[counted]) for kind, number, each in kinds if number and counted in each]
            asked, hard = sum((number * each for _, number, each in wanted), Decimal(0)), quantity(most)
            left = hard - quantity((status.get("used") or {}).get(name, "0"))
            if not wanted or asked <= left:
                continue
            shares = " + ".join(
                f"{kind} {f'{number} x ' if number > 1 else ''}{_text(name, each)}" for kind, number, each in wanted
            )
            whole = f"{_text(name, hard)} of the quota {quota['metadata']['name']}"
            there = whole if asked > hard else f"{_text(name, max(left, Decimal(0)))} left of the {whole}"
            found.append(Shortage(name, f"{_text(name, asked)} ({shares})", there, asked > hard))
    return found


def quantity(text: object) -> Decimal:
    """``"500m"``, ``"4Gi"`` or ``2`` as a number.

    :raises ValueError: when it is no quantity of Kubernetes.
    """
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    return Decimal(match[1]) * _UNITS[match[2] or ""]


def _text(name: str, amount: Decimal) -> str:
    """As people write it: CPUs with their fraction, bytes in Mi."""
    if name.endswith(("memory", "storage")) or "hugepages-" in name:
        return f"{amount / 2**20:.6g}Mi"
    return f"{amount.normalize():f}"
