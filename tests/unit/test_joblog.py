"""A job's news in the task log."""

from __future__ import annotations

import logging

import pytest
from dask_provider import joblog
from dask_provider.hooks.base import News
from dask_provider.joblog import JobLog, failure_text, progress_line
from dask_provider.outcomes import Outcome


def progress(done: int, total: int = 2400, **others: int) -> dict[str, object]:
    return {"kind": "progress", "done": done, "total": total, "workers": 4, "memory": 1288490189, "erred": 0, **others}


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(joblog, "time", clock)
    return clock


@pytest.fixture
def show(caplog: pytest.LogCaptureFixture, clock: Clock) -> JobLog:
    caplog.set_level(logging.INFO)
    return JobLog(logging.getLogger("task"))


def test_a_progress_line() -> None:
    assert progress_line(progress(812)) == "tasks 812/2,400 · 4 workers · 1.2 GiB · erred 0"
    assert progress_line(progress(0, 0, workers=1, memory=5, erred=3)) == "tasks 0/0 · 1 worker · 5 B · erred 3"


def test_progress_is_said_when_it_changed_and_not_too_often(
    show: JobLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    show.show(News(messages=[progress(0, 0)]))
    assert not caplog.messages, "a job without Dask work has no progress"
    for second in range(25):
        clock.now = 1000 + second
        show.show(News(messages=[progress(second)]))
    assert [line.split()[1] for line in caplog.messages] == ["0/2,400", "10/2,400", "20/2,400"]
    clock.now += 60
    show.show(News(messages=[progress(20)]))
    show.show(News())
    assert len(caplog.messages) == 3, "nothing changed"
    show.show(News(messages=[progress(2400)]))
    show.show(News(outcome=Outcome("succeeded")))
    assert caplog.messages[-1].startswith("tasks 2,400/2,400"), "the last word is always said"
    assert len(caplog.messages) == 4


def test_lines_and_losses_come_in_order(show: JobLog, caplog: pytest.LogCaptureFixture) -> None:
    show.show(News(lines=["100 %s %d", "two"], messages=[{"kind": "worker_lost", "worker": "worker-1", "left": 3}]))
    assert caplog.messages == ["100 %s %d", "two", "worker worker-1 is gone, 3 left"]
    assert caplog.records[-1].levelname == "WARNING"
    show.show(News(messages=[{"kind": "of a newer runtime"}, {"kind": "outcome", "state": "succeeded"}]))
    assert len(caplog.messages) == 3


def test_a_failure_tells_the_reason_first() -> None:
    outcome = Outcome("failed", reason="exit code 1: KilledWorker", tail=["a", "b"])
    assert failure_text("job-1", outcome) == (
        "job job-1 failed: exit code 1: KilledWorker\nthe last lines of its output:\n    a\n    b"
    )
    assert failure_text("job-1", Outcome("unknown")) == "job job-1 unknown: no reason given"
