"""What clusters cost: said before one is made, refused above a limit, and told when it has ended."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.hooks import hook_of
from dask_provider.operators import DaskDeleteClusterOperator

from tests.integration.dataproc.place import Dataproc
from tests.integration.place import FIRST

pytest_plugins = ["tests.servers.gcs"]


async def test_a_spec_that_could_cost_too_much_makes_nothing(place: Dataproc) -> None:
    for fields, why in (
        ({"max_cost": 1}, "or a shorter max_lifetime"),
        ({"max_cost": 1000, "worker": "c4-standard-2"}, "no price of c4-standard-2 in europe-west1"),
    ):
        with pytest.raises(InvalidInput, match=rf"DataprocCluster\.max_cost.*{why}"):
            await hook_of("dataproc").create(place.spec(**fields), place.owner("dear"), FIRST)
    assert "clusters" not in place.get("clusters")
    assert "operations" not in place.get("operations")


async def test_the_delete_step_returns_what_it_has_cost(
    place: Dataproc, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hook = hook_of("dataproc")
    with caplog.at_level(logging.INFO, "dask_provider"):
        made = await hook.create(place.spec(workers=1, max_cost=5), place.owner("cost"), FIRST)
    said = [line for line in caplog.messages if " USD an hour, at most " in line]
    assert len(said) == 1, caplog.messages
    assert made.name in said[0]
    told = await asyncio.to_thread(DaskDeleteClusterOperator(task_id="delete", cluster=made.to_dict()).work)
    assert told is not None
    # n2-custom-2-4096 with 100 GB pd-balanced, by the table that comes along.
    assert told["per_hour"] == pytest.approx(
        1.05 * (2 * 0.034773 + 4 * 0.004661) + 2 * 0.010 + 100 * 0.1 / 730, rel=1e-4
    )
    assert told["amount"] == pytest.approx(told["per_hour"] * told["hours"], abs=1e-3)
    assert 0 < told["hours"] < 1
    assert (told["currency"], told["at_most"]) == ("USD", False)

    # Again, with nothing there any more: nobody knows when it went.
    again = await asyncio.to_thread(DaskDeleteClusterOperator(task_id="delete", cluster=made.to_dict()).work)
    assert again is not None
    assert (again["per_hour"], again["at_most"]) == (told["per_hour"], True)

    # A cluster ends all the same when its cost cannot be told.
    other = await hook.create(place.spec(workers=1), place.owner("table"), FIRST)
    (tmp_path / "prices.json").write_text("no table")
    monkeypatch.setenv("AIRFLOW__DASK__DATAPROC_PRICES", str(tmp_path / "prices.json"))
    assert await asyncio.to_thread(DaskDeleteClusterOperator(task_id="delete", cluster=other.to_dict()).work) is None
    assert await hook.wait_gone(other, 0)
