"""Numbers with units, as users write them: ``"4 GiB"``, ``"10 min"``, ``(2, 10)``."""

from __future__ import annotations

import re
from datetime import timedelta

from dask_provider.errors import InvalidInput

_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SECONDS = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def is_template(value: object) -> bool:
    """Whether a field still holds Jinja that only a DAG run can render."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def parse_bytes(field: str, value: object, *, least: int = 1) -> int:
    """``"4 GiB"``, ``"500MB"`` or a number of bytes -> bytes.

    :raises InvalidInput: for an unknown unit, less than ``least`` or no number at all.
    """
    allowed = f'a number of bytes or text like "4 GiB", "500 MB", at least {human_bytes(least)}'
    match = _NUMBER_AND_UNIT.fullmatch(str(value)) if isinstance(value, int | float | str) else None
    unit = match and _BYTES.get(match[2].lower())
    if isinstance(value, bool) or not match or not unit:
        raise InvalidInput(field, value, allowed)
    count = int(float(match[1]) * unit)
    if count < least:
        raise InvalidInput(field, value, allowed)
    return count


def parse_seconds(field: str, value: object) -> float:
    """Seconds as a number, ``timedelta`` or text like ``"10 min"`` -> seconds, above zero.

    :raises InvalidInput: for an unknown unit, zero, a negative number or no number at all.
    """
    allowed = 'seconds above zero: a number, a timedelta, or text like "90s", "10 min", "24h"'
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    else:
        match = _NUMBER_AND_UNIT.fullmatch(str(value)) if isinstance(value, int | float | str) else None
        unit = match and _SECONDS.get(match[2].lower())
        if isinstance(value, bool) or not match or not unit:
            raise InvalidInput(field, value, allowed)
        seconds = float(match[1]) * unit
    if seconds <= 0:
        raise InvalidInput(field, value, allowed)
    return seconds


def parse_count(field: str, value: object, *, least: int = 1) -> int:
    """A whole number, also as text (a rendered template).

    :raises InvalidInput: when it is no whole number or below ``least``.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        count = int(value)
        if count < least:
            raise ValueError
    except ValueError:
        raise InvalidInput(field, value, f"a whole number of at least {least}") from None
    return count


def parse_workers(field: str, value: object) -> tuple[int, int]:
    """``4`` -> ``(4, 4)``; ``(2, 10)`` stays: minimum and maximum of an elastic cluster.

    :raises InvalidInput: for zero workers, a minimum above the maximum or anything else.
    """
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise InvalidInput(field, value, "a number, or a pair (minimum, maximum)")
        low, high = parse_count(field, value[0], least=0), parse_count(field, value[1])
        if low > high:
            raise InvalidInput(field, value, "a pair (minimum, maximum) with minimum <= maximum")
        return low, high
    count = parse_count(field, value)
    return count, count


def human_bytes(count: float) -> str:
    """``1288490189`` -> ``"1.2 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
