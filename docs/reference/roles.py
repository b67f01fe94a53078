"""Puts docstrings into words that mkdocstrings knows: roles (``:class:`~a.b.C```) become code, ``:param a, b:`` two."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):`(~?)([^`]+)`")
_TWO = re.compile(r"^( *):param (\w+), (\w+): (.*)$", re.MULTILINE)


def plain(text: str) -> str:
    """The text with each role as code; ``~`` keeps only the last part of the name."""
    text = _TWO.sub(r"\1:param \2: \4\n\1:param \3: \4", text)
    return _ROLE.sub(lambda role: f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`", text)


class Roles(griffe.Extension):
    """Changes every docstring as soon as it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
