"""A job beside a Dask application on YARN that is there for this job alone.

YARN gives its room back between two jobs, and a job that is tried again meets nothing of the one before.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import NoReturn

from . import job as beside
from .dask_side import NotReady
from .records import write_record
from .yarn import find, kill, start, wait_ready
from .yarn_spec import YarnSpec

#: who asks for the end while the application starts; the job itself listens to both
_ENDING = (signal.SIGTERM, signal.SIGINT)


class _Asked(BaseException):
    """Somebody asks for the end."""


def main(arguments: list[str]) -> int:
    """``yarn job JOB.JSON``: start the application that its ``yarn`` describes, run the job, end the application.

    ``yarn`` holds the fields of a :class:`.YarnSpec`. Applications with all of its tags are ended first: they are an
    older try's. ``scheduler`` and ``tls`` are filled in; the rest is as for the command ``job``.
    """
    path = Path(arguments[0]).absolute()
    job = json.loads(path.read_text())
    identity = None
    for number in _ENDING:
        signal.signal(number, _ask)
    try:
        spec = YarnSpec.of(job["yarn"])
        for left in find(spec.tags) if spec.tags else ():
            print(f"ending {left}, which an older try has left", flush=True)
            kill(left)
        application = start(spec, path.parent / f"yarn-{time.time_ns()}")
        identity = application.identity
        print(f"started {identity}", flush=True)
        ready = wait_ready(application, job["min_workers"], job["ready_timeout"], lambda line: print(line, flush=True))
        write_record(path, job | {"scheduler": ready.scheduler, "tls": ready.tls})
        return beside.main([str(path)])
    except (NotReady, ValueError) as error:
        return beside.finish(path.parent, {"state": "failed", "reason": str(error)})
    except _Asked as asked:
        return beside.finish(path.parent, {"state": "cancelled", "reason": f"cancelled ({asked})"})
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)  # the end is near; it must not come sooner
        if identity is not None:
            kill(identity)


def _ask(number: int, frame: object) -> NoReturn:
    raise _Asked(signal.Signals(number).name)
