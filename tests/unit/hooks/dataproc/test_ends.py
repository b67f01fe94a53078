"""Who waits for a cluster's end, against looks that come late: what an emulator, which never lags, cannot show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from dask_provider.errors import ClusterFailed
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.dataproc import ends
from dask_provider.hooks.dataproc.client import Client

HANDLE = ClusterHandle("dataproc", "dask-x", "u", {}, expires="2026-11-02T00:00:00+00:00", details={"region": "r"})


class Looks:
    """What one look after the other shows, the last one for ever; the clock stands still but for what is slept.

    :param states: ``gone``: there is none of the name; ``other``: a newer one. One that ends with ``*`` stands after a
        deletion that failed before.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *states: str) -> None:
        self._states, self.now, self.patience = list(states), 1000.0, 60.0
        self.slept: list[float] = []
        self.patient: list[float] = []
        monkeypatch.setattr(ends, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(ends, "asyncio", SimpleNamespace(sleep=self._sleep))

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clusters(self, name: str) -> str:
        return name

    async def find(self, _: str) -> dict[str, Any] | None:
        self.patient.append(self.patience)
        self.now += 0.1
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if state == "gone":
            return None
        found: dict[str, Any] = {
            "clusterUuid": "v" if state == "other" else "u",
            "statusHistory": [{"state": "CREATING"}],
        }
        if state.endswith("*"):
            found["statusHistory"].append({"state": "DELETING"})
        found["status"] = {"state": state.rstrip("*"), "detail": "The subnetwork is in use."}
        return found

    async def is_gone(self, seconds: float) -> bool:
        return await ends.is_gone(cast(Client, self), HANDLE, seconds)


@pytest.mark.parametrize(
    "states",
    [
        ("DELETING", "gone"),
        ("RUNNING", "RUNNING", "DELETING", "other"),  # the request is not seen at once
        ("ERROR*", "ERROR*", "DELETING", "gone"),  # nor after one that failed
        ("DELETING", "RUNNING", "DELETING", "gone"),  # an older answer
        ("DELETING", "UPDATING", "UPDATING", "gone"),  # something else first
    ],
)
async def test_gone(monkeypatch: pytest.MonkeyPatch, states: tuple[str, ...]) -> None:
    assert await Looks(monkeypatch, *states).is_gone(300)


@pytest.mark.parametrize(
    ("states", "seconds"), [(("DELETING", "ERROR"), 5), (("RUNNING", "DELETING", "RUNNING"), 5), (("ERROR*",), 15)]
)
async def test_given_up(monkeypatch: pytest.MonkeyPatch, states: tuple[str, ...], seconds: float) -> None:
    looks = Looks(monkeypatch, *states)
    with pytest.raises(ClusterFailed) as failed:
        await looks.is_gone(300)
    assert looks.now < 1000 + seconds
    said = f"given up deleting cluster dask-x, which is {states[-1].rstrip('*')} again: The subnetwork is in use."
    assert said in str(failed.value)
    assert f"ends it, {HANDLE.expires}" in str(failed.value)


@pytest.mark.parametrize(("state", "seconds"), [("RUNNING", 0), ("RUNNING*", 0), ("RUNNING", 400), ("DELETING", 400)])
async def test_still_there(monkeypatch: pytest.MonkeyPatch, state: str, seconds: float) -> None:
    """Nobody need have asked for its end: then nothing has failed. The longer it takes, the less often it is asked."""
    looks = Looks(monkeypatch, state)
    assert not await looks.is_gone(seconds)
    assert len(looks.patient) == 1 if seconds == 0 else 400 < looks.now - 1000 < 410
    assert all(1 <= slept <= 5 for slept in looks.slept)
    assert looks.slept == sorted(looks.slept)
    assert looks.slept[-1:] == ([5] if seconds else [])
    # One look waits out an outage for as long as there is time.
    assert looks.patient[0] == max(60, seconds)
    assert looks.patient[-1] == 60 or seconds == 0
