"""Checks that the fields of more than one place need. Each leaves what is still a template alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask_provider.errors import InvalidInput
from dask_provider.units import is_template


def check_text(field: str, value: object, pattern: re.Pattern[str], allowed: str) -> None:
    """:raises InvalidInput: when the text is not what the pattern says."""
    if not is_template(value) and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise InvalidInput(field, value, allowed)


def check_mapping(field: str, value: object) -> Mapping[str, Any]:
    """:raises InvalidInput: when it is no mapping of texts to anything."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidInput(field, value, "a mapping with text keys")
    return value


def check_list(field: str, value: object) -> Sequence[Any]:
    """:raises InvalidInput: when it is no list."""
    if not isinstance(value, list | tuple):
        raise InvalidInput(field, value, "a list")
    return value


def each(check: Callable[[str, Any], None], field: str, value: object) -> None:
    """Check every entry of a list."""
    for item in check_list(field, value):
        check(field, item)
