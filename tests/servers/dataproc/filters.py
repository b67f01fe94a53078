"""Filters and pages of lists."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import ge, gt, le, lt
from typing import TypeVar

from tests.servers.dataproc.errors import invalid

Item = TypeVar("Item")
Condition = tuple[str, str, str]  # field, operator, value

_CONDITION = re.compile(r'\s*([A-Za-z][\w.-]*)\s*(?:(<=|>=|=|:|<|>)\s*("[^"]*"|\S+))?')
_AND = re.compile(r"\s+AND\b|\s+")
ACTIVE = {"CREATING", "UPDATING", "RUNNING"}
INACTIVE = {"DELETING", "ERROR", "STOPPING", "STOPPED"}


def conditions(text: str) -> list[Condition]:
    """``field = value AND field = value``; a blank is an AND, a field alone matches any value.

    :raises ApiError: INVALID_ARGUMENT.
    """
    found: list[Condition] = []
    rest = text.strip()
    while rest:
        match = _CONDITION.match(rest)
        if not match or match[1] == "AND":
            raise invalid(f"Invalid filter '{text}': expected 'field = value' at '{rest}'.")
        found.append((match[1], match[2] or "=", (match[3] or "*").strip('"').replace("\\*", "*")))
        rest = rest[match.end() :]
        if rest and not (joint := _AND.match(rest)):
            raise invalid(f"Invalid filter '{text}': expected AND at '{rest}'.")
        rest = rest[joint.end() :].lstrip() if rest and joint else ""
    return found


def select(
    items: Iterable[Item], text: str, fields: Collection[str], value_of: Callable[[Item, str], set[str]]
) -> list[Item]:
    """The items that pass a filter.

    :param fields: that may be asked for, beside ``labels.[KEY]``.
    :param value_of: what a field of an item may be called, or nothing where it has none.
    :raises ApiError: INVALID_ARGUMENT.
    """
    wanted = conditions(text)
    for field, operator, _ in wanted:
        known = field in fields or field.startswith("labels.")
        if not known or (operator != "=" and field != "insertTime"):
            raise invalid(f"Invalid filter '{text}': '{field} {operator}' is not supported.")
    return [item for item in items if all(_passes(value_of(item, field), *rest) for field, *rest in wanted)]


def label(labels: Mapping[str, str], field: str) -> set[str]:
    """The value of ``labels.[KEY]``."""
    key = field.removeprefix("labels.")
    return {labels[key]} if key in labels else set()


def _passes(actual: set[str], operator: str, value: str) -> bool:
    if operator in ("=", ":"):
        return bool(actual) if value == "*" else value in actual
    compare = {"<": lt, "<=": le, ">": gt, ">=": ge}[operator]
    return any(compare(each, value) for each in actual)  # times in RFC 3339 sort as text


def page(items: Sequence[Item], size: str, token: str, default: int = 100) -> tuple[Sequence[Item], str]:
    """One page, and the token of the next."""
    try:
        wanted = int(size or 0)
        start = int(base64.urlsafe_b64decode(token).decode()) if token else 0
    except ValueError:
        raise invalid("Invalid page_size or page_token.") from None
    if wanted < 0 or start < 0:
        raise invalid("Invalid page_size or page_token.")
    end = start + (wanted or default)
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else ""
    return items[start:end], following
