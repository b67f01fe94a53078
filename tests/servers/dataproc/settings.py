"""What tests may change while the emulator runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from tests.servers.dataproc.errors import invalid

DELAYS = ("create", "delete", "update", "repair", "stop", "start", "diagnose", "submit")


@dataclass
class Settings:
    """How fast and how large this Dataproc is.

    :param time_scale: so many of the service's seconds pass in one: divides the times to live and the graceful
        decommission, never what is validated, shown or given to an initialization action. With 100, an
        ``idleDeleteTtl`` of 300 s ends after 3 s.
    :param delays: seconds that an operation takes at least, by its name; ``submit``: a job before its driver.
    :param quota: most of ``CPUS`` and ``INSTANCES`` in a region of a project; without an entry there is no limit.
    :param projects: that exist; empty: all.
    :param project: what a project has of other APIs, instead of tests.servers.dataproc.neighbours.PROJECT.
    :param token: the access token that every request must bring; empty: none is asked for.
    :param output_seconds: between two writes of a growing driver output.
    :param output_bytes: after so many, a driver's output goes on in its next object.
    :param list_lag: seconds for which a new job is not in lists yet; by its id it is found at once.
    :param kill_seconds: between SIGTERM and SIGKILL for the driver of a job that is cancelled.
    """

    time_scale: float = 1.0
    delays: dict[str, float] = field(default_factory=dict)
    quota: dict[str, int] = field(default_factory=dict)
    projects: list[str] = field(default_factory=list)
    project: dict[str, Any] = field(default_factory=dict)
    token: str = ""
    output_seconds: float = 0.5
    output_bytes: int = 1 << 20
    list_lag: float = 0.0
    kill_seconds: float = 5.0

    def changed(self, changes: dict[str, Any]) -> Settings:
        """:raises ApiError: INVALID_ARGUMENT: a name that is none, or a value that cannot be."""
        names = {each.name for each in dataclasses.fields(self)}
        if unknown := set(changes) - names:
            raise invalid(f"unknown settings {sorted(unknown)}; there are {sorted(names)}")
        made = dataclasses.replace(self, **changes)
        if wrong := set(made.delays) - set(DELAYS):
            raise invalid(f"delays: unknown {sorted(wrong)}; there are {sorted(DELAYS)}")
        if made.time_scale <= 0:
            raise invalid(f"time_scale: must be above 0, not {made.time_scale}")
        return made
