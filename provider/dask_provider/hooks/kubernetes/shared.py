"""One answer for many who ask the same at about the same time."""

from __future__ import annotations

import asyncio
import contextvars
from weakref import WeakKeyDictionary

from dask_provider.hooks.kubernetes import paths as api
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.objects import Object

_Answers = dict[tuple[str, ...], "asyncio.Task[list[Object]]"]
_answers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Answers] = WeakKeyDictionary()


async def warnings_of(access: Access, namespace: str, max_age: float) -> list[Object]:
    """Events of the type Warning in a namespace, asked for at most ``max_age`` seconds ago by anybody of this loop.

    :raises ApiError: as whoever asked was told.
    """
    loop = asyncio.get_running_loop()
    answers = _answers.setdefault(loop, {})
    key = (access.key, namespace, f"{max_age:g}")
    if key not in answers:
        # In a context of its own: else its lines would land in the log of whichever task came first.
        answers[key] = contextvars.Context().run(loop.create_task, _warnings(access, namespace))
        answers[key].add_done_callback(lambda task: task.cancelled() or task.exception())  # perhaps nobody waits by now
        loop.call_later(max_age, answers.pop, key)
    return await asyncio.shield(answers[key])


async def _warnings(access: Access, namespace: str) -> list[Object]:
    # A client of its own: whoever comes first may be cancelled, and close his.
    async with Client(access) as k:
        found: list[Object] = (await k.list(api.events(namespace), fields="type=Warning"))["items"]
        return found
