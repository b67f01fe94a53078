"""The lease of a cluster on Kubernetes: a pod that ends when nobody needs the cluster any more.

The Job of this pod owns all other objects of the cluster: once the Job is over, Kubernetes removes it and them, with
Airflow or without. The pod needs no rights and no volume of code: its whole source is its command, ``python -c``. So it
is one file of the standard library alone.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import sys
import time
import urllib.request
from typing import Any

#: seconds between looks
EVERY = 2.0
_EXTENDED = re.compile(r'^dask-provider/extended-until="([0-9.]+)"$', re.MULTILINE)


class Lease:
    """Whether the cluster still is needed.

    :param idle_timeout: seconds without work after which it is not.
    :param start_timeout: seconds for which a scheduler that has never answered counts as starting, which is work.
    """

    def __init__(self, idle_timeout: float, start_timeout: float, now: float) -> None:
        self._idle_timeout = idle_timeout
        self._starting_until = now + start_timeout
        self._busy = now
        self._idle_since: object = None

    def over(self, now: float, seen: dict[str, Any] | None, extended_until: float) -> bool:
        """One look.

        :param seen: ``clients`` and ``idle_since`` as the scheduler tells; ``None`` when it does not answer.
        """
        if seen is not None:
            self._starting_until = now
            # A client is a job at work, whatever it does. The time of an idle scheduler changes when it had worked.
            if seen["clients"] or seen["idle_since"] is None or seen["idle_since"] != self._idle_since:
                self._busy = now
            self._idle_since = seen["idle_since"]
        elif now < self._starting_until:
            self._busy = now
        return now - self._busy > self._idle_timeout and now > extended_until


def main(arguments: list[str]) -> int:
    """``URL IDLE_TIMEOUT START_TIMEOUT ANNOTATIONS``: end with 0 when the lease is over.

    ``ANNOTATIONS`` is the file in which Kubernetes shows the pod's own annotations.
    """
    url, idle_timeout, start_timeout, annotations = arguments
    # Not 0, which would end the cluster of a pod that only has to move. Without this the first process of a container
    # ignores the signal, and everybody waits until it is killed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    lease = Lease(float(idle_timeout), float(start_timeout), time.time())
    while not lease.over(time.time(), _ask(url), _extended_until(annotations)):
        time.sleep(EVERY)
    print(f"nothing to do for {idle_timeout} s: the lease is over", flush=True)
    return 0


def _ask(url: str) -> dict[str, Any] | None:
    try:
        return {
            # Without the one that every scheduler has for itself, "fire-and-forget".
            "clients": _get(url + "json/counts.json")["clients"] - 1,
            "idle_since": _get(url + "api/v1/check_idle")["idle_since"],
        }
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return None


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=3) as answer:
        return json.load(answer)


def _extended_until(annotations: str) -> float:
    try:
        with open(annotations) as file:
            found = _EXTENDED.search(file.read())
    except OSError:
        return 0.0
    return float(found[1]) if found else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
