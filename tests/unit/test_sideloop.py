"""Coroutines in a side thread: what comes back, what is interrupted, and that interrupted ones really end."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
import time
from collections.abc import AsyncIterator

import pytest
from dask_provider.sideloop import DeadlinePassed, run_aside, until, within

told: contextvars.ContextVar[str] = contextvars.ContextVar("told", default="nothing")


class Killed(Exception):
    """What a signal handler raises, as Airflow's time-out does."""


class Sleeper:
    """A coroutine that notes how it ended."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def sleep(self) -> None:
        self.said.append("began")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.said.append("cancelled")
            await asyncio.sleep(0.01)  # tidying up may take a moment, too
            self.said.append("tidied up")
            raise


def test_the_answer_and_the_error_of_a_coroutine_come_back() -> None:
    async def answer() -> str:
        return f"{told.get()} in {threading.current_thread().name}"

    async def fail() -> None:
        raise KeyError("why")

    told.set("something")
    assert run_aside(answer()) == "something in dask-side-loop"
    with pytest.raises(KeyError, match="why"):
        run_aside(fail())


def test_a_signal_handler_that_raises_cancels_the_coroutine() -> None:
    sleeper = Sleeper()

    def killed(number: int, frame: object) -> None:
        raise Killed

    before = signal.signal(signal.SIGUSR1, killed)
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Killed):
            run_aside(sleeper.sleep())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sleeper.said == ["began", "cancelled", "tidied up"]


def test_a_time_out_cancels_it_too() -> None:
    sleeper = Sleeper()
    with pytest.raises(TimeoutError):
        run_aside(sleeper.sleep(), 0.1)
    assert sleeper.said == ["began", "cancelled", "tidied up"]


def test_in_a_signal_handler_while_another_one_runs() -> None:
    """As ``on_kill`` does it: the handler interrupts the main thread's own wait."""
    answers: list[str] = []

    async def inner() -> str:
        await asyncio.sleep(0.01)
        return "inner"

    async def outer() -> str:
        await asyncio.sleep(0.5)
        return "outer"

    before = signal.signal(signal.SIGUSR1, lambda *_: answers.append(run_aside(inner())))
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        answers.append(run_aside(outer()))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answers == ["inner", "outer"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_nothing_is_left_open() -> None:
    async def nothing() -> None: ...

    run_aside(nothing())
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(20):
        run_aside(nothing())
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_within_gives_the_answer_the_error_or_up() -> None:
    assert within(5, max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        within(5, divmod, 1, 0)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"sleep did not answer within 0\.1 s"):
        within(0.1, time.sleep, 5)
    assert time.monotonic() - began < 4


class Source:
    def __init__(self, *items: float) -> None:
        self.items, self.closed = items, False

    async def __call__(self) -> AsyncIterator[float]:
        try:
            for item in self.items:
                await asyncio.sleep(item)
                yield item
        finally:
            self.closed = True


async def test_until_passes_on_what_comes_in_time() -> None:
    source = Source(0, 0.01, 0.02)
    loop = asyncio.get_running_loop()
    assert [item async for item in until(None, source())] == [0, 0.01, 0.02]
    assert [item async for item in until(loop.time() + 30, source())] == [0, 0.01, 0.02]


async def test_until_ends_a_source_that_is_late() -> None:
    source = Source(0, 30)
    items = until(asyncio.get_running_loop().time() + 0.1, source())
    assert await anext(items) == 0
    with pytest.raises(DeadlinePassed):
        await anext(items)
    assert source.closed


async def test_until_cancelled_cancels_the_source() -> None:
    source = Source(30)

    async def follow() -> None:
        async for _ in until(None, source()):
            pass

    following = asyncio.ensure_future(follow())
    await asyncio.sleep(0.05)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    await asyncio.sleep(0)
    assert source.closed


async def test_until_passes_on_the_errors_of_the_source() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise KeyError("why")

    with pytest.raises(KeyError, match="why"):
        assert [item async for item in until(None, broken())]
