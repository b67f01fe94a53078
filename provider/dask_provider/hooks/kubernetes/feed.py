"""One watch for many waiters: whoever waits for an object of a kind in a namespace shares it with all of its loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from weakref import WeakKeyDictionary

from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError, Expired
from dask_provider.hooks.kubernetes.objects import Object, name_of, newest
from dask_provider.hooks.kubernetes.paths import Labels, selector

logger = logging.getLogger(__name__)

#: answers that a server which has just started may give by mistake, for so many seconds
REFUSALS, GRACE = (401, 403, 404), 60.0
_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, ...], Feed]] = WeakKeyDictionary()


class _Box:
    """The newest news of one subscriber, who may be slow: older ones that he has not seen are dropped."""

    def __init__(self) -> None:
        self.newest: Object | None = None
        self.error: Exception | None = None
        self.filled = asyncio.Event()
        self._as_of, self._seen = -1, "?"

    def offer(self, as_of: int, found: Object | None, about: str | None = None) -> None:
        """What there was at a resource version. News may overtake each other: what is older is ignored.

        :param about: name of the one object that has changed; default: it is the outcome of a list.
        """
        seen = found["metadata"]["resourceVersion"] if found else ""
        if as_of > self._as_of:
            self._as_of = as_of
            if seen != self._seen and not self._of_a_former(about, found):
                self.newest, self._seen = found, seen
                self.filled.set()

    def _of_a_former(self, about: str | None, found: Object | None) -> bool:
        """Whether the news is of an object in whose place another one is by now."""
        if about is None or self.newest is None or name_of(self.newest) == about:
            return False
        return found is None or newest((found, self.newest)) is self.newest


class Feed:
    """The objects of one path, by name or by a label. Lists and watches while anybody is subscribed."""

    def __init__(
        self, client_factory: Callable[[], Client], path: str, labels: Labels, by: str | None, key: tuple[str, ...]
    ) -> None:
        self._factory, self._path, self._labels, self._by, self._key = client_factory, path, labels, by, key
        self._boxes: dict[str, set[_Box]] = {}
        self._task: asyncio.Task[None] | None = None
        self._client: Client | None = None
        self._known = False  # whether the server has ever let us
        self._refused_since: float | None = None  # the watch, though not the list

    @classmethod
    def of(
        cls,
        access_key: str,
        client_factory: Callable[[], Client],
        path: str,
        labels: Labels = None,
        *,
        by: str | None = None,
    ) -> Feed:
        """The feed of the running loop, shared by all with an equal :attr:`Access.key`, path, labels and label.

        :param client_factory: makes the client, which belongs to the feed from then on.
        :param by: a label whose value counts as the name; of several objects the one that was made last.
        """
        feeds = _feeds.setdefault(asyncio.get_running_loop(), {})
        key = (access_key, path, selector(labels) or "", by or "")
        return feeds.setdefault(key, cls(client_factory, path, labels, by, key))

    @asynccontextmanager
    async def subscribe(self, name: str) -> AsyncIterator[AsyncGenerator[Object | None, None]]:
        """The object of that name as it is now, then each time it has changed; ``None`` while there is none.

        Only the newest is given; an outage of the server of any length is waited out, so set a deadline.

        :raises ApiError: from the iteration, for what does not pass by waiting: 401, 403, 404 of the resource type.
        """
        box = _Box()
        self._boxes.setdefault(name, set()).add(box)
        begins = self._client is None or self._task is None or self._task.done()
        if begins:
            self._client = self._factory()
            self._client.patience = math.inf
            # In a context of its own: else its lines would land in the log of whichever task came first.
            running = self._run(self._client)
            self._task = contextvars.Context().run(asyncio.create_task, running, name=f"feed of {self._path}")
        assert self._client is not None
        updates = self._updates(None if begins else self._client, name, box)
        try:
            yield updates
        finally:
            self._boxes[name].discard(box)
            if not self._boxes[name]:
                del self._boxes[name]
            if not self._boxes and self._task is not None:
                feeds = _feeds.get(asyncio.get_running_loop(), {})
                if feeds.get(self._key) is self:
                    del feeds[self._key]
                task, self._task = self._task, None
                task.cancel()
                await asyncio.wait({task})

    async def _updates(self, client: Client | None, name: str, box: _Box) -> AsyncGenerator[Object | None, None]:
        """:param client: of a watch that was there before; it may lag behind what the subscriber has just created."""
        if client is not None:
            try:
                listed = await self._list(client, name)
            except Exception:
                if box.error is not None:  # the watch has failed and closed the client: its reason is the true one
                    raise box.error from None
                raise
            box.offer(int(listed["metadata"]["resourceVersion"]), newest(listed["items"]))
        while True:
            await box.filled.wait()
            box.filled.clear()
            if box.error is not None:
                raise box.error
            yield box.newest

    async def _run(self, client: Client) -> None:
        try:
            async with client:
                while True:
                    await self._follow(client)
                    await asyncio.sleep(1)
        except Exception as error:  # noqa: BLE001  whatever it is: nobody may wait for ever
            for box in (box for boxes in self._boxes.values() for box in boxes):
                box.error = error
                box.filled.set()

    async def _follow(self, client: Client) -> None:
        """List and watch, until both must be done again."""
        listed = await self._list(client)
        version = listed["metadata"]["resourceVersion"]
        found = self._by_name(listed["items"])
        for name, boxes in self._boxes.items():
            for box in boxes:
                box.offer(int(version), found.get(name))
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with aclosing(client.watch(self._path, resource_version=version, labels=self._labels)) as changes:
                async for kind, changed in changes:
                    self._refused_since = None
                    for box in self._boxes.get(self._name(changed), ()):
                        now = None if kind == "DELETED" else changed
                        box.offer(int(changed["metadata"]["resourceVersion"]), now, name_of(changed))
        except ApiError as error:
            if not isinstance(error, Expired):
                at = loop.time()
                if self._refused_since is None or at - began > GRACE:  # it was let in, though nothing happened
                    self._refused_since = at
                if error.status not in REFUSALS or at - self._refused_since > GRACE:
                    raise
            logger.info("%s is listed again: %s", self._path, error)

    def _name(self, found: Object) -> str:
        if self._by is None:
            return name_of(found)
        return str((found["metadata"].get("labels") or {}).get(self._by, ""))

    def _by_name(self, items: Iterable[Object]) -> dict[str, Object]:
        """The newest of each."""
        ordered = sorted(items, key=lambda item: str(item["metadata"]["creationTimestamp"]))
        return {self._name(item): item for item in ordered}

    async def _list(self, client: Client, name: str | None = None) -> Object:
        """All, or those of one name."""
        labels, fields = self._labels, None
        if name is not None and self._by is None:
            fields = f"metadata.name={name}"
        elif name is not None:
            labels = ",".join(filter(None, (selector(labels), f"{self._by}={name}")))
        loop = asyncio.get_running_loop()
        until = loop.time() + (GRACE if self._known else 0.0)
        while True:
            try:
                listed = await client.list(self._path, labels=labels, fields=fields)
            except ApiError as error:
                if error.status not in REFUSALS or loop.time() >= until:
                    raise
                await asyncio.sleep(1)
            else:
                self._known = True
                return listed
