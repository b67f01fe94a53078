"""What pip would find on the Internet, made once: Dask and what it needs as wheels."""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.servers.gobuild import CACHE
from tests.servers.kubernetes.cached import HERE, key_of, locked, remove, run

_REQUIREMENTS = HERE.parents[2] / "requirements" / "image.txt"


def dask_version() -> str:
    """Of the tests, hence of the wheels."""
    return version("dask")


def wheelhouse() -> Path:
    """A folder of wheels for the Python that runs the tests: dask, distributed and what they need, as they are pinned.

    :raises RuntimeError: they cannot be downloaded.
    """
    text = _pinned(_needed({"dask", "distributed"}))
    folder = CACHE / f"wheelhouse-{key_of(text=f'{sys.version_info[:2]} {text}')}"
    with locked(CACHE / f"{folder.name}.lock"):
        if not folder.exists():
            unfinished = CACHE / f"{folder.name}.unfinished"
            remove(unfinished)
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
                requirements.write(text)
                requirements.flush()
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
                pip += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
                run([*pip, "--dest", str(unfinished), "-r", requirements.name])
            unfinished.rename(folder)
    return folder


def _needed(names: set[str]) -> set[str]:
    """These distributions and all that they need, without extras, as the tests' own environment has them."""
    found: set[str] = set()
    while waiting := names - found:
        for name in waiting:
            found.add(name)
            wanted = [Requirement(line) for line in requires(name) or []]
            here = {"extra": ""}
            names |= {canonicalize_name(each.name) for each in wanted if not each.marker or each.marker.evaluate(here)}
    return found


def _pinned(names: set[str]) -> str:
    """Their lines of the requirements file, hashes included."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", _REQUIREMENTS.read_text())
    chosen = [entry for entry in entries if canonicalize_name(re.split(r"[\[=]", entry)[0]) in names]
    return "\n".join([*chosen, ""])
