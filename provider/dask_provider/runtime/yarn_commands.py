"""``python dask_job_runtime.pyz yarn COMMAND ...``: on a node of YARN's cluster, or in an application's container."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .dask_side import NotReady
from .yarn import kill, scale, start, started, wait_ready
from .yarn_spec import YarnSpec


def main(arguments: list[str]) -> int:
    """``start SPEC.JSON FOLDER | ready FOLDER WORKERS SECONDS | scale FOLDER FEWEST MOST | kill FOLDER``.

    ``job JOB.JSON``: all of it for one job. In a container of the application, ``scheduler`` and ``worker``.
    """
    command, *rest = arguments or [""]
    if command == "job":
        from .yarn_job import main as run

        return run(rest)
    if command in ("scheduler", "worker"):
        from .yarn_service import main as serve

        return serve(command)
    try:
        return _command(command, rest)
    except (NotReady, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _command(command: str, rest: list[str]) -> int:
    if command == "start" and len(rest) == 2:
        print(start(YarnSpec.of(json.loads(Path(rest[0]).read_text())), Path(rest[1])).identity)
        return 0
    if command not in ("ready", "scale", "kill") or len(rest) != {"ready": 3, "scale": 3, "kill": 1}[command]:
        print(f"usage: yarn {(main.__doc__ or '').splitlines()[0]}", file=sys.stderr)
        return 2
    application = started(Path(rest[0]))
    if application is None:
        raise NotReady(f"{rest[0]} has no application")
    if command == "ready":
        found = wait_ready(application, int(rest[1]), float(rest[2]), lambda line: print(line, file=sys.stderr))
        print(json.dumps(vars(found)))
    elif command == "scale":
        scale(application, (int(rest[1]), int(rest[2])))
    else:
        report = kill(application.identity)
        print(f"{application.identity} {report['state']} {report['finalStatus']}")
    return 0
