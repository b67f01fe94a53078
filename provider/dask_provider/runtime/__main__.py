"""``python -m dask_provider.runtime COMMAND ...``, or ``python dask_job_runtime.pyz COMMAND ...``."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run one command; each imports only what it needs."""
    command, *rest = arguments or ["help"]
    if command == "job":
        from .job import main as run
    elif command == "call":
        from .callables import main as run
    elif command == "keeper":
        from .keeper import main as run
    elif command == "detach":
        from .processes import main as run
    else:
        print("commands: job JOB.JSON [FOLDER] | call CALL.PKL RESULT.JSON | keeper FOLDER")
        print("          detach RECORD LOG -- COMMAND ...")
        return 2
    return run(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
