"""``python -m dask_provider.runtime COMMAND ...``, or ``python dask_job_runtime.pyz COMMAND ...``."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main(arguments: list[str]) -> int:
    """Run one command; each imports only what it needs."""
    command, *rest = arguments or ["help"]
    if command == "job":
        from .job import main as of_command
    elif command == "call":
        from .callables import main as of_command
    elif command == "keeper":
        from .keeper import main as of_command
    elif command == "detach":
        from .processes import main as of_command
    elif command == "yarn":
        from .yarn_commands import main as of_command
    else:
        print("commands: job JOB.JSON [FOLDER] | call CALL.PKL RESULT.JSON | keeper FOLDER")
        print("          detach RECORD LOG -- COMMAND ... | yarn COMMAND ...")
        return 2
    return of_command(rest)


def run(arguments: list[str]) -> NoReturn:
    """Run one command and end with its exit status."""
    code = main(arguments)
    if arguments[:1] == ["job"]:
        # At once: all is on record, and taking the modules down takes half a second for which everybody waits.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run(sys.argv[1:])
