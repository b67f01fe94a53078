"""What somebody who follows a job bears, and what he waits for."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from dask_provider.hooks.kubernetes import following
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError, Unreachable
from dask_provider.hooks.kubernetes.feed import GRACE
from dask_provider.runtime import report


def test_a_server_may_refuse_for_a_moment_after_an_outage_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: clock.now))
    client = Client(Access(server="https://x", source="a test"))
    follower = following._Follower(client, "etl", "job-1", 0, eager=True)
    refused = ApiError(401, "Unauthorized", "no")
    for clock.now in (1.0, 2 * GRACE, 9 * GRACE):
        follower._bear(Unreachable("away"))
    clock.now += 1
    follower._bear(refused)
    clock.now += GRACE - 1
    follower._bear(refused)
    clock.now += 2
    with pytest.raises(ApiError, match="401"):
        follower._bear(refused)


class Server:
    """Answers what is asked at the end of a job: each answer once, the last one for good.

    :param listed: pods, or why there is no answer.
    :param logs: lines with their stamps, or why there is no answer.
    """

    def __init__(self, listed: list[Any], logs: list[Any]) -> None:
        self._listed, self._logs = listed, logs

    async def list(self, *_: object, **__: object) -> Any:
        return {"items": _next(self._listed)}

    async def log(self, *_: object, **__: object) -> AsyncGenerator[tuple[int, str], None]:
        for each in _next(self._logs):
            yield each


def _next(answers: list[Any]) -> Any:
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    if isinstance(answer, Exception):
        raise answer
    return answer


OUTCOME = {"kind": "outcome", "state": "failed", "reason": "ValueError: 7", "exit_code": 1}
POD = {
    "metadata": {"name": "job-1-x", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "status": {
        "phase": "Failed",
        "containerStatuses": [{"name": "job", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}],
    },
}
RUNNING = {**POD, "status": {"containerStatuses": [{"name": "job", "state": {"running": {}}}]}}
LINES = [(10, "so far"), (11, f"{report.PREFIX}{json.dumps(OUTCOME)}")]
AWAY = Unreachable("away")


@pytest.mark.parametrize(
    ("pod", "listed", "logs"),
    [
        (None, [AWAY, AWAY, [POD]], [LINES]),
        (RUNNING, [ApiError(401, "Unauthorized", "new"), AWAY, [POD]], [AWAY, AWAY, LINES]),
        (POD, [AWAY, [POD]], [ApiError(502, "BadGateway", "away"), LINES]),
        (POD, [[POD]], [AWAY, LINES]),
    ],
    ids=["its pod is not known", "as it was last seen", "behind a balancer", "its log"],
)
async def test_no_verdict_while_the_server_does_not_answer(pod: Any, listed: list[Any], logs: list[Any]) -> None:
    server: Any = Server(listed, logs)
    follower = following._Follower(server, "etl", "job-1", 0, eager=True)
    follower._longest = 0.01
    follower._main = "job"
    follower._job = {"metadata": {}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    follower._see(pod)
    follower._over_since = time.monotonic()
    follower._known.set()
    follower._pod_known.set()
    news = [each async for each in follower.news([])]
    assert news[-1].outcome is not None
    assert (news[-1].outcome.state, news[-1].outcome.reason) == ("failed", "ValueError: 7")
    assert [line for each in news for line in each.lines] == ["so far"]


async def test_a_log_that_went_with_its_node() -> None:
    """The server answers; what it cannot read it never will."""
    server: Any = Server([[POD]], [ApiError(500, "InternalError", "no route to host")])
    follower = following._Follower(server, "etl", "job-1", 0, eager=True)
    follower._main = "job"
    follower._job = {"metadata": {}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    follower._see(POD)
    follower._known.set()
    follower._pod_known.set()
    (news,) = [each async for each in follower.news([])]
    assert news.outcome is not None
    assert news.outcome.state == "failed"


async def test_a_line_that_its_node_wrote_after_a_later_one() -> None:
    """Read anew, it would pass for one that was shown: it is waited for."""

    class Node(Server):
        async def log(self, *_: object, **__: object) -> AsyncGenerator[tuple[int, str], None]:
            yield 10, "its output"
            await asyncio.sleep(0.05)
            follower._see(POD)
            await asyncio.sleep(0.1)
            yield 9, "its errors"
            await asyncio.sleep(60)

    server: Any = Node([[POD]], [])
    follower = following._Follower(server, "etl", "job-1", 0, eager=True)
    follower._gather, follower._main = 0.01, "job"
    follower._see(RUNNING)
    news = [each async for each in follower._log()]
    assert [line for each in news for line in each.lines] == ["its output", "its errors"]
