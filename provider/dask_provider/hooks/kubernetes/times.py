"""Times as Kubernetes writes them (RFC 3339), and as we count them. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from functools import lru_cache

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def nanoseconds(text: str) -> int:
    """Since 1970. Integers all the way: a float holds microseconds only.

    :raises ValueError: when it is no such time.
    """
    found = _STAMP.fullmatch(text)
    if found is None:
        raise ValueError(f"no time: {text[:40]!r}")
    return _second(found[1] + found[3]) * 10**9 + int((found[2] or "").ljust(9, "0"))


def seconds(text: str) -> float:
    """Since 1970, see :func:`nanoseconds`."""
    return nanoseconds(text) / 10**9


def rfc3339(nanoseconds: int) -> str:
    """A time in whole seconds, not later."""
    return datetime.fromtimestamp(nanoseconds // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=64)
def _second(text: str) -> int:
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())  # Python 3.10 knows no Z
