"""Our initialization actions: written in parts, each is one script where machines read it."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^# include (\S+)\n", re.MULTILINE)


@cache
def script(name: str) -> str:
    """The source of ``dask`` or ``nfs``, whole: a line ``# include PART`` is that file."""
    here = resources.files(__name__)

    def included(match: re.Match[str]) -> str:
        if match[1] == "yarn_compat.py":  # what a job's program has, too
            return (resources.files("dask_provider.runtime") / match[1]).read_text(encoding="utf-8")
        return (here / match[1]).read_text(encoding="utf-8")

    text = (here / f"{name}.sh").read_text(encoding="utf-8")
    while _INCLUDE.search(text):
        text = _INCLUDE.sub(included, text)
    return text
