"""``airflow-dask preflight``: whether a place has what a cluster needs, before one is made."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_provider.hooks.dataproc.preflight_checks import Check

#: exit codes beside 0: something failed; nothing failed, but something is unknown
FAILED, UNKNOWN = 1, 3
_DESCRIPTION = """Check what a cluster on Google Dataproc needs: APIs, rights, network, quota, buckets, accounts, keys.
Nothing is made or changed. Exit code: 0 all is well, 1 something failed, 3 nothing failed but something is unknown."""
_FIELD = """a field of DataprocCluster, the value as text or JSON: region=europe-west1 workers=4
nfs='{"server": "10.0.0.2", "export": "/share"}'"""


def add(subparsers: Any) -> None:
    """Add the command to those of ``airflow-dask``."""
    parser = subparsers.add_parser("preflight", help="check what a place needs before a cluster is made")
    places = parser.add_subparsers(metavar="place", required=True)
    dataproc = places.add_parser("dataproc", help="Google Dataproc", description=_DESCRIPTION)
    dataproc.add_argument(
        "--spec", metavar="FILE", help="JSON file with fields of DataprocCluster; - is standard input"
    )
    dataproc.add_argument("fields", nargs="*", metavar="FIELD=VALUE", help=_FIELD)
    dataproc.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print a table; returns the exit code.

    :raises InvalidInput: when the spec cannot be used.
    """
    import asyncio

    from dask_provider.clusters.dataproc import DataprocCluster
    from dask_provider.hooks import hook_of

    hook_of(DataprocCluster)  # says it when its client library is missing
    from dask_provider.hooks.dataproc.preflight import preflight

    spec = DataprocCluster(**_fields(given.spec, given.fields))
    checks = asyncio.run(preflight(spec))
    print("\n".join(_lines(checks)))
    states = {check.state for check in checks}
    return FAILED if "failed" in states else UNKNOWN if "unknown" in states else 0


def _fields(path: str | None, pairs: Sequence[str]) -> dict[str, Any]:
    """Those of the file, then those of the command line."""
    import sys
    from pathlib import Path

    from dask_provider.errors import InvalidInput

    fields: Any = {}
    if path is not None:
        try:
            fields = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text())
        except (OSError, ValueError) as error:
            raise InvalidInput("--spec", path, f"a file with a JSON object ({error})") from None
        if not isinstance(fields, dict):
            raise InvalidInput("--spec", path, "a file with a JSON object: fields of DataprocCluster")
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InvalidInput("FIELD=VALUE", pair, "a field of DataprocCluster, =, and its value")
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = value
    return dict(fields)


def _lines(checks: Sequence[Check]) -> list[str]:
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<8} {check.name:<{width}}  {check.text}")
        if check.remedy and check.state != "ok":
            lines.append(f"{'':<8} {'':<{width}}  -> {check.remedy}")
    return lines
