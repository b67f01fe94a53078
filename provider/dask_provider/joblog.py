"""A job's news as lines of a task log: the same in the worker and in the triggerer."""

from __future__ import annotations

import time
from typing import Any

from dask_provider.hooks.base import News
from dask_provider.outcomes import Outcome
from dask_provider.units import human_bytes

#: seconds between progress lines at least
PROGRESS_EVERY = 10.0


class JobLog:
    """Writes what happened; progress only when something changed, and not too often."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._now = ""
        self._said = ""
        self._said_at = 0.0

    def show(self, news: News) -> None:
        """One piece of news."""
        for line in news.lines:
            self._log.info("%s", line)
        for message in news.messages:
            self._message(message)
        if news.outcome is not None:
            self._progress(every=0)

    def _message(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "waiting":
            self._log.info("waiting for %s and %s workers", message["scheduler"], message["workers"])
        elif kind == "started":
            self._log.info("started: %s", " ".join(message["command"]))
        elif kind == "place":
            self._log.info("%s", message["text"])
        elif kind == "worker_lost":
            self._log.warning("worker %s is gone, %s left", message["worker"], message["left"])
        elif kind == "progress" and message["total"]:
            self._now = progress_line(message)
            self._progress(every=PROGRESS_EVERY)

    def _progress(self, *, every: float) -> None:
        now = time.monotonic()
        if self._now != self._said and now - self._said_at >= every:
            self._said, self._said_at = self._now, now
            self._log.info("%s", self._now)


def progress_line(message: dict[str, Any]) -> str:
    """``tasks 812/2,400 · 4 workers · 1.2 GiB · erred 0``."""
    workers = message["workers"]
    return (
        f"tasks {message['done']:,}/{message['total']:,} · {workers} worker{'' if workers == 1 else 's'} · "
        f"{human_bytes(message['memory'])} · erred {message['erred']}"
    )


def failure_text(job_id: str, outcome: Outcome) -> str:
    """Why first, then the end of the output."""
    lines = [f"job {job_id} {outcome.state}: {outcome.reason or 'no reason given'}"]
    if outcome.tail:
        lines += ["the last lines of its output:", *(f"    {line}" for line in outcome.tail)]
    return "\n".join(lines)
