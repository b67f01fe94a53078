"""How long, and how often, what did not work is tried again."""

from __future__ import annotations

import asyncio
import logging
import random

from dask_provider.hooks.kubernetes.errors import ApiError

logger = logging.getLogger(__name__)


class Trouble:
    """The pauses between tries: longer each time, never at the same time as everybody else's."""

    def __init__(self, patience: float) -> None:
        """:param patience: seconds after which nothing is tried again."""
        self._until = asyncio.get_running_loop().time() + patience
        self._pause = 0.0

    async def wait(self, error: ApiError) -> None:
        """Until the next try.

        :raises ApiError: this one, when it does not pass or patience is at its end.
        """
        first, self._pause = not self._pause, min(10.0, self._pause * 2 or 0.2)
        pause = max(error.retry_after or 0.0, self._pause) * random.uniform(1.0, 1.5)
        if not error.passing or asyncio.get_running_loop().time() + pause > self._until:
            raise error
        logger.log(logging.WARNING if first else logging.DEBUG, "%s; trying again", error)
        await asyncio.sleep(pause)

    def over(self) -> None:
        """It works again."""
        if self._pause:
            logger.info("the Kubernetes API answers again")
        self._pause = 0.0
