"""An autoscaling policy of Dataproc: what it may say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dask_provider.clusters.checks import check_text
from dask_provider.clusters.dataproc_fields import TEXTS
from dask_provider.errors import InvalidInput
from dask_provider.units import is_template, parse_count, parse_seconds

#: what Dataproc takes, in seconds
COOLDOWN_SPAN, DAY = (120.0, 86400.0), 86400.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,48}[A-Za-z0-9]")
Pair = int | str | tuple[int | str, int | str]


@dataclass(frozen=True, kw_only=True)
class AutoscalingPolicy:
    """By what Dataproc changes the number of machines: the memory that YARN lacks, or has too much.

    What is still a template is checked once it is rendered.

    :param policy_id: 3 to 50 of letters, digits, ``_`` and ``-``.
    :param region: where it is, and the clusters that use it.
    :param project_id: ``None``: that of the connection.
    :param workers: least and most primary workers, or one number; at least 2.
    :param secondary_workers: least and most secondary workers, or one number.
    :param cooldown: seconds (or ``"2 min"``) between two changes: 2 min to 1 day.
    :param graceful_timeout: seconds for which containers may go on on a machine that is to go: up to 1 day, 0 for none.
    :param scale_up: 0 to 1: the part of the missing memory that is made up for at a time.
    :param scale_down: 0 to 1: the part of the memory in excess that goes at a time; 0: no machine ever goes.
    :param scale_up_min_fraction: 0 to 1: the least change upwards, as a part of the cluster.
    :param scale_down_min_fraction: likewise downwards.
    :raises InvalidInput: for a value that Dataproc does not take.
    """

    policy_id: str
    region: str
    project_id: str | None = None
    workers: Pair = 2
    secondary_workers: Pair = 0
    cooldown: float | str | timedelta = 120
    graceful_timeout: float | str | timedelta = 3600
    scale_up: float | str = 1.0
    scale_down: float | str = 1.0
    scale_up_min_fraction: float | str = 0.0
    scale_down_min_fraction: float | str = 0.0

    def __post_init__(self) -> None:
        check_text("policy_id", self.policy_id, _ID, "3 to 50 letters, digits, _ and -, the first and last no _ or -")
        for name in ("region", "project_id"):
            if (value := getattr(self, name)) is not None or name == "region":
                check_text(name, value, *TEXTS[name])
        for name, least in (("workers", 2), ("secondary_workers", 0)):
            value = getattr(self, name)
            if not any(map(is_template, value if isinstance(value, list | tuple) else (value,))):
                _range(name, value, least)
        if not is_template(self.cooldown):
            _ = self.cooldown_seconds
        if not is_template(self.graceful_timeout):
            _ = self.graceful_seconds
        for name in ("scale_up", "scale_down", "scale_up_min_fraction", "scale_down_min_fraction"):
            if not is_template(getattr(self, name)):
                self.fraction(name)

    @property
    def worker_range(self) -> tuple[int, int]:
        """Least and most primary workers."""
        return _range("workers", self.workers, 2)

    @property
    def secondary_range(self) -> tuple[int, int]:
        """Least and most secondary workers."""
        return _range("secondary_workers", self.secondary_workers, 0)

    @property
    def cooldown_seconds(self) -> float:
        """``cooldown`` in seconds."""
        seconds = parse_seconds("cooldown", self.cooldown)
        if not COOLDOWN_SPAN[0] <= seconds <= COOLDOWN_SPAN[1]:
            raise InvalidInput("cooldown", self.cooldown, "2 min to 1 day")
        return seconds

    @property
    def graceful_seconds(self) -> float:
        """``graceful_timeout`` in seconds."""
        if self.graceful_timeout in (0, "0", "0s"):
            return 0.0
        seconds = parse_seconds("graceful_timeout", self.graceful_timeout)
        if seconds > DAY:
            raise InvalidInput("graceful_timeout", self.graceful_timeout, "0 to 1 day")
        return seconds

    def fraction(self, name: str) -> float:
        """A field that is a part of the whole."""
        value = getattr(self, name)
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError
            number = float(value)
            if not 0 <= number <= 1:
                raise ValueError
        except ValueError:
            raise InvalidInput(name, value, "a number from 0 to 1") from None
        return number


def _range(name: str, value: Any, least: int) -> tuple[int, int]:
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2:
        raise InvalidInput(name, value, "a number, or a pair (minimum, maximum)")
    low, high = (parse_count(name, count, least=least) for count in pair)
    if low > high:
        raise InvalidInput(name, value, "a pair (minimum, maximum) with minimum <= maximum")
    return low, high
