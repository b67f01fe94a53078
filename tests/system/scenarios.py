"""Scenarios that run side by side in one Airflow: each test waits for its own, all began together.

Most of a scenario is waiting, so a few at a time share two cores well.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dev.airflow_server import AirflowServer

Scenario = Callable[[AirflowServer, Path], None]


class Scenarios:
    """A named collection; :meth:`begin` starts the wanted ones, :meth:`check` is the verdict of one."""

    def __init__(self, at_once: int) -> None:
        self._known: dict[str, Scenario] = {}
        self._verdicts: dict[tuple[int, str], Future[None]] = {}
        self._at_once = at_once

    def add(self, *arguments: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Register a scenario; with arguments, one for each of them, passed as the last parameter."""

        def register(function: Callable[..., None]) -> Callable[..., None]:
            for argument in arguments:
                self._known[f"{function.__name__}[{argument}]"] = _with(function, argument)
            if not arguments:
                self._known[function.__name__] = function
            return function

        return register

    @property
    def names(self) -> list[str]:
        return list(self._known)

    def begin(self, names: list[str], server: AirflowServer, folder: Path) -> None:
        pool = ThreadPoolExecutor(self._at_once)
        for number, name in enumerate(names):
            own = folder / f"scenario-{number}"
            own.mkdir(parents=True)
            self._verdicts[server.major, name] = pool.submit(self._known[name], server, own)
        pool.shutdown(wait=False)

    def check(self, major: int, name: str) -> None:
        """Wait for the scenario in Airflow ``major`` and raise what it raised."""
        self._verdicts[major, name].result()

    def wait_all(self, major: int) -> None:
        """Wait for all that have begun, whatever became of them."""
        for (where, _), verdict in self._verdicts.items():
            if where == major:
                verdict.exception()


def _with(function: Callable[..., None], argument: Any) -> Scenario:
    def scenario(server: AirflowServer, folder: Path) -> None:
        function(server, folder, argument)

    return scenario
