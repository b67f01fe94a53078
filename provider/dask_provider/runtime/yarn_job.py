"""A job beside a Dask application on YARN that is there for this job alone.

YARN gives its room back between two jobs, and a job that is tried again meets nothing of the one before.
"""

from __future__ import annotations

import json
import pkgutil
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from . import job as beside
from .dask_side import NotReady
from .records import write_record
from .yarn import find, kill, start, wait_ready
from .yarn_rest import ResourceManager
from .yarn_spec import YarnSpec

#: who asks for the end while the application starts; the job itself listens to both
_ENDING = (signal.SIGTERM, signal.SIGINT)
#: milliseconds by which clocks of workers differ, at most
SKEW = 300_000
_TRY = re.compile(r".*-(\d+)\.(\d+)")


class _Asked(BaseException):
    """Somebody asks for the end."""


def main(arguments: list[str]) -> int:
    """``yarn job JOB.JSON [FOLDER]``: start the application that its ``yarn`` describes, run the job, end it.

    ``yarn`` holds the fields of a :class:`.YarnSpec`. Its first tag says whose the job is: applications with that are
    ended before the job, but for those of a newer try, as a tag ``JOB-NUMBER.START`` tells. Those with all of its tags
    are the program's own after the job, and ended, too. ``scheduler`` and ``tls`` are filled in; the rest is as for the
    command ``job``. In the program ``from dask_yarn import YarnCluster`` works.
    """
    path = beside.placed(arguments)
    job = json.loads(path.read_text())
    tags: tuple[str, ...] = ()
    identity = None
    for number in _ENDING:
        signal.signal(number, _ask)
    try:
        spec = YarnSpec.of(job["yarn"])
        tags = spec.tags
        end_older(tags)
        application = start(spec, path.parent / f"yarn-{time.time_ns()}")
        identity = application.identity
        print(f"started {identity}", flush=True)
        ready = wait_ready(application, job["min_workers"], job["ready_timeout"], lambda line: print(line, flush=True))
        env = for_dask_yarn(spec, path.parent) | job["env"]
        write_record(path, job | {"scheduler": ready.scheduler, "tls": ready.tls, "env": env})
        return beside.main([str(path)])
    except (NotReady, ValueError) as error:
        return beside.finish(path.parent, {"state": "failed", "reason": str(error)})
    except _Asked as asked:
        return beside.finish(path.parent, {"state": "cancelled", "reason": f"cancelled ({asked})"})
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)  # the end is near; it must not come sooner
        try:
            if identity is not None:
                kill(identity)
            for left in find(tags) if tags else ():
                print(f"ending {left}, which the program has left", flush=True)
                kill(left)
        except NotReady as error:  # the outcome is on record; YARN ends what is left when its lifetime is over
            print(f"not everything on YARN has ended: {error}", flush=True)


def for_dask_yarn(spec: YarnSpec, folder: Path) -> dict[str, str]:
    """Environment in which a program makes a ``YarnCluster`` of its own, found by the same tags.

    :param folder: of the job, which is on the program's PYTHONPATH; what makes dask-yarn work is put there.
    """
    source = pkgutil.get_data(__package__, "yarn_compat.py")
    assert source is not None
    (folder / "sitecustomize.py").write_bytes(source)
    return {
        "DASK_YARN__ENVIRONMENT": f"python://{spec.python}",
        "DASK_YARN__QUEUE": spec.queue,
        "DASK_YARN__TAGS": json.dumps(spec.tags),
    }


def end_older(tags: tuple[str, ...]) -> None:
    """End what older tries of the same owner have left. A newer one may have begun while this one was late."""
    for left in ResourceManager().find(tags[:1]) if tags else ():
        if not _overtaken(_try_of(tags), _try_of(left["applicationTags"].split(","))):
            print(f"ending {left['id']}, which an older try has left", flush=True)
            kill(left["id"])


def _try_of(tags: Iterable[str]) -> tuple[int, int]:
    """Number and start of the try, in milliseconds; zeros where no tag tells."""
    found = [match for match in map(_TRY.fullmatch, tags) if match]
    return (int(found[0][1]), int(found[0][2])) if found else (0, 0)


def _overtaken(mine: tuple[int, int], theirs: tuple[int, int]) -> bool:
    """As :meth:`dask_provider.owner.Attempt.is_overtaken_by`, for the same reasons."""
    return theirs[1] > mine[1] + (0 if theirs[0] >= mine[0] else SKEW)


def _ask(number: int, frame: object) -> NoReturn:
    raise _Asked(signal.Signals(number).name)
