"""A table of prices: ours, or the user's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from dask_provider import config
from dask_provider.errors import InvalidInput

FIELD = "[dask] dataproc_prices"
#: hours of the month by which Google sells disks
MONTH = 730.0
_MACHINE = re.compile(r"([a-z]\w*)-(standard|highmem|highcpu|custom)-(\d+)(?:-(\d+))?")


class UnknownCost(Exception):
    """A price is missing; the message names it."""


@dataclass(frozen=True)
class Prices:
    """List prices of machines and disks. All in ``currency``, before taxes and discounts.

    :param where: the file.
    :param date: of which day they are.
    :param source: where they come from.
    :param table: the whole table, checked: see ``prices.json`` beside this file.
    """

    where: str
    date: str
    source: str
    currency: str
    table: Mapping[str, Any]

    def dataproc(self, cpus: int) -> float:
        """Dataproc's own charge for a machine, an hour."""
        return cpus * float(self.table["dataproc_vcpu_hour"])

    def address(self) -> float:
        """A public address, an hour."""
        return float(self._of(self.table, "external_address_hour", "a public address"))

    def disk(self, region: str, kind: str, size_gb: float) -> float:
        """A disk, an hour."""
        disks = self._region(region).get("disk_gb_month", {})
        return size_gb * float(self._of(disks, kind, f"disks {kind} in {region}")) / MONTH

    def machine(self, region: str, machine_type: str, *, spot: bool) -> tuple[int, float]:
        """Virtual CPUs, and the price of the machine without disks and Dataproc's charge, an hour.

        :raises UnknownCost: when type or region is not in the table.
        """
        what = f"{machine_type} in {region}"
        share = float(self._of(self.table, "spot_share", f"spot machines ({what})")) if spot else 1.0
        match = _MACHINE.fullmatch(machine_type)
        own = self._region(region).get("machines", {}).get(machine_type)
        if own is not None:
            return int(own["vcpus"]), share * float(own["hour"])
        if match is None or (match[2] == "custom") != (match[4] is not None):
            raise UnknownCost(f"{self.where} has no price of {what}")
        cpus, family = int(match[3]), self._region(region).get("families", {}).get(match[1])
        sizes = self.table.get("gb_per_vcpu", {}).get(match[1], {})
        if match[2] == "custom":
            memory = int(match[4]) / 1024
            share *= float(self._of(self.table, "custom_share", what))
        else:
            memory = cpus * float(self._of(sizes, match[2], what))
        if family is None:
            raise UnknownCost(f"{self.where} has no price of {what}")
        return cpus, share * (cpus * float(family["vcpu_hour"]) + memory * float(family["gb_hour"]))

    def _region(self, region: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._of(self.table["regions"], region, f"the region {region}")
        return found

    def _of(self, table: Mapping[str, Any], name: str, what: str) -> Any:
        if name not in table:
            raise UnknownCost(f"{self.where} has no price of {what}")
        return table[name]


def load_prices() -> Prices:
    """The table of ``[dask] dataproc_prices``, or ours. Blocks.

    :raises InvalidInput: when it cannot be read, or is no such table.
    """
    if uri := config.dataproc_prices():
        from dask_provider.storage import read_bytes

        return parse_prices(uri, read_bytes(FIELD, uri))
    return parse_prices("the provider's own table", (resources.files(__package__) / "prices.json").read_bytes())


def parse_prices(where: str, content: bytes) -> Prices:
    """:raises InvalidInput: naming what is wrong."""
    try:
        table = json.loads(content)
    except ValueError as error:
        raise InvalidInput(FIELD, where, f"a table in JSON ({error})") from None
    if not isinstance(table, dict):
        raise InvalidInput(FIELD, where, "a table in JSON: an object")
    for name in ("date", "source", "currency"):
        if not (isinstance(table.get(name), str) and table[name].strip()):
            raise InvalidInput(FIELD, where, f"a table that has a text {name!r}")
    for name, kind, what in (("regions", dict, "an object"), ("dataproc_vcpu_hour", (int, float), "a number")):
        if not isinstance(table.get(name), kind):
            raise InvalidInput(FIELD, where, f"a table that has {name!r}: {what}")
    for name, regions in (("regions", table["regions"]), ("gb_per_vcpu", table.get("gb_per_vcpu", {}))):
        inner = regions.items() if isinstance(regions, dict) else [("", regions)]
        if wrong := [key for key, value in inner if not isinstance(value, dict)]:
            raise InvalidInput(FIELD, where, f"an object at {name}.{wrong[0]}".rstrip("."))
    for region, kinds in table["regions"].items():
        if wrong := [key for key in kinds if not (key in _KINDS and isinstance(kinds[key], dict))]:
            raise InvalidInput(FIELD, where, f"objects {', '.join(_KINDS)} in regions.{region}, not {wrong[0]!r}")
    _check(where, "", table)
    return Prices(where, table["date"], table["source"], table["currency"], table)


#: what an object of a table has to have, by the name of the one that holds such objects
_NEEDED = {"families": ("vcpu_hour", "gb_hour"), "machines": ("vcpus", "hour")}
_TEXTS = ("date", "source", "currency")
_KINDS = ("families", "machines", "disk_gb_month")


def _check(where: str, path: str, value: Any) -> None:
    """Below the top there are objects and prices, nothing else."""
    if isinstance(value, dict):
        for name, inner in value.items():
            here = f"{path}.{name}" if path else name
            if here in _TEXTS:
                continue
            holder = path.rpartition(".")[2]
            if holder in _NEEDED and (not isinstance(inner, dict) or not set(_NEEDED[holder]) <= set(inner)):
                raise InvalidInput(FIELD, where, f"{' and '.join(_NEEDED[holder])} in {here}")
            _check(where, here, inner)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise InvalidInput(FIELD, where, f"a number of at least 0 at {path}, not {value!r}")
