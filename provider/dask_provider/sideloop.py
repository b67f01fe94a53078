"""Coroutines run from blocking code, on an event loop in a side thread, while the calling thread just waits.

Airflow ends tasks by signals, whose handlers run in the main thread. With the loop there, ``asyncio.run`` in
``on_kill`` fails and an exception raised by a handler is lost in whatever coroutine happens to run; with the main
thread waiting on a future, both arrive where they should.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlinePassed(Exception):
    """The wait took longer than it may. Not a ``TimeoutError``, which whatever is waited for may raise itself."""


def run_aside(coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Run it to its end on a loop of its own.

    When the waiting is interrupted (a signal handler raised, or ``timeout`` seconds are over) the coroutine is
    cancelled and the exception goes on.

    :raises TimeoutError: after ``timeout`` seconds.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_serve, args=(loop,), name="dask-side-loop", daemon=True)
    thread.start()
    # The callback is scheduled from here, so the coroutine sees this thread's context variables.
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result(timeout)
    except concurrent.futures.TimeoutError:
        if future.done():
            raise  # the coroutine's own
        raise TimeoutError(f"no answer within {timeout} s") from None
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(1)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped; what still runs then is cancelled, and may tidy up."""

    async def tidy_up() -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await loop.shutdown_asyncgens()

    try:
        loop.run_forever()
        loop.run_until_complete(tidy_up())
    finally:
        loop.close()


def within(seconds: float, function: Callable[..., T], *args: Any) -> T:
    """The function's answer, or ``TimeoutError``; a blocking call that hangs is left behind in its thread."""
    answer: list[T] = []
    trouble: list[BaseException] = []

    def call() -> None:
        try:
            answer.append(function(*args))
        except BaseException as error:  # noqa: BLE001  handed to the caller
            trouble.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if trouble:
        raise trouble[0]
    if not answer:
        raise TimeoutError(f"{getattr(function, '__name__', function)} did not answer within {seconds} s")
    return answer[0]


async def until(deadline: float | None, source: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """The items of ``source``, which is closed at the end.

    :raises DeadlinePassed: once the loop's clock passes ``deadline``.
    """
    loop = asyncio.get_running_loop()
    iterator = source.__aiter__()
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(iterator.__anext__())
            left = None if deadline is None else max(0.0, deadline - loop.time())
            done, _ = await asyncio.wait({coming}, timeout=left)
            if not done:
                raise DeadlinePassed
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.wait({coming})
        if isinstance(source, AsyncGenerator):
            await source.aclose()
