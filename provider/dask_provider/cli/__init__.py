"""The command ``airflow-dask``: what a terminal or a pipeline needs of this provider. Each command has its own file.

A command's file imports little, so that ``--help`` costs nothing: what it needs it imports when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dask_provider import __version__
from dask_provider.cli import jobs, preflight
from dask_provider.errors import InvalidInput

#: each has ``add(subparsers)``, which sets ``run``: what takes the parsed arguments and returns the exit code
COMMANDS = (jobs, preflight)
#: exit code when what was given cannot be used, as argparse has it
WRONG = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    :param arguments: of the command line; ``None``: those of this process.
    """
    parser = argparse.ArgumentParser(prog="airflow-dask", description="Temporary Dask clusters for Airflow.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(metavar="command", required=True)
    for command in COMMANDS:
        command.add(subparsers)
    given = parser.parse_args(arguments)
    try:
        code: int = given.run(given)
    except InvalidInput as error:
        print(f"airflow-dask: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return 130
    return code
