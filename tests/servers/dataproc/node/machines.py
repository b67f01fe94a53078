"""How large a machine type is."""

from __future__ import annotations

import re

_GIB_PER_CPU = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}
_GIB_PER_CPU_N1 = {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9}
_PREDEFINED = re.compile(r"([a-z]+[0-9]+[a-z]?)-(standard|highmem|highcpu)-([0-9]+)")
_CUSTOM = re.compile(r"(?:[a-z]+[0-9]+[a-z]?-)?custom-([0-9]+)-([0-9]+)")


def size(machine_type: str) -> tuple[int, int]:
    """Processors and bytes of memory. What only some families have more or less of is left aside.

    :raises OSError: Compute Engine has no such machine, as far as is known here.
    """
    if match := _PREDEFINED.fullmatch(machine_type):
        each = (_GIB_PER_CPU_N1 if match[1] == "n1" else _GIB_PER_CPU)[match[2]]
        return int(match[3]), int(int(match[3]) * each * 2**30)
    if match := _CUSTOM.fullmatch(machine_type):
        return int(match[1]), int(match[2]) * 2**20
    raise OSError(f"machine type {machine_type!r}: known are FAMILY-{{standard,highmem,highcpu}}-N and custom-N-MB")


def meminfo(memory: int) -> str:
    """What ``/proc/meminfo`` tells of a machine that does nothing yet.

    :param memory: bytes.
    """
    free = int(memory * 0.95)
    values = {"MemTotal": memory, "MemFree": free, "MemAvailable": free, "Buffers": 0, "Cached": 0, "Active": 0}
    values |= {"Inactive": 0, "Shmem": 0, "Slab": 0, "SReclaimable": 0, "SwapTotal": 0, "SwapFree": 0}
    return "".join(f"{name + ':':<16}{value // 1024:>8} kB\n" for name, value in values.items())
