"""What a cluster costs, in the same words for every place that knows."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from dask_provider.errors import InvalidInput


@dataclass(frozen=True)
class Cost:
    """An estimate by list prices: without discounts, taxes, network traffic and storage.

    :param per_hour: in ``currency``; ``None``: unknown.
    :param currency: such as ``USD``.
    :param since: when its machines began to cost, ISO 8601 UTC.
    :param until: when they ended at the latest, ISO 8601 UTC; ``None``: nobody knows yet.
    :param at_most: whether it may have been less: fewer machines for a part of the time, or an earlier end.
    :param text: of which prices it is made, or what is missing.
    :raises InvalidInput: for a time that cannot be read or says no zone.
    """

    per_hour: float | None
    currency: str
    since: str
    text: str
    until: str | None = None
    at_most: bool = False

    def __post_init__(self) -> None:
        _time("since", self.since)
        if self.until is not None:
            _time("until", self.until)

    def total(self, now: datetime) -> dict[str, Any]:
        """All until now, or until it ended, as plain JSON values: ``amount`` in ``currency``, ``hours``, ``per_hour``,
        ``at_most`` and ``text``. Without ``amount`` and ``per_hour`` when it is unknown: never zero for that.
        """
        began = _time("since", self.since)
        ended = now if self.until is None else min(now, _time("until", self.until))
        hours = max(0.0, (ended.astimezone(timezone.utc) - began).total_seconds() / 3600)
        known = {} if self.per_hour is None else {"amount": round(self.per_hour * hours, 4), "per_hour": self.per_hour}
        shown = {"currency": self.currency, "hours": round(hours, 4), "at_most": self.at_most, "text": self.text}
        return {**known, **shown}


def _time(field: str, text: str) -> datetime:
    with contextlib.suppress(ValueError):
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not read the Z
        if found.tzinfo is not None:
            return found
    raise InvalidInput(f"Cost.{field}", text, "a time with its zone, ISO 8601, such as 2024-01-31T07:00:00Z")


def sentence(total: dict[str, Any]) -> str:
    """What :meth:`Cost.total` says, for the log."""
    if "amount" not in total:
        return f"cost unknown: {total['text']}"
    about = "at most" if total["at_most"] else "about"
    return f"it has cost {about} {total['amount']:.2f} {total['currency']} in {total['hours']:.2f} h ({total['text']})"
