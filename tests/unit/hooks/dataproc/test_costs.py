"""What clusters cost, by the table that comes along and by others."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.clusters.dataproc_fields import DISK_TYPES
from dask_provider.errors import InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.cost import sentence
from dask_provider.hooks.dataproc import costs
from dask_provider.hooks.dataproc.costs import cost_per_hour, machines, most
from dask_provider.hooks.dataproc.prices import Prices, UnknownCost, load_prices, parse_prices
from dask_provider.hooks.dataproc.requests import cluster_request
from dask_provider.owner import PLANNED, Owner

TABLE: dict[str, Any] = {
    "date": "2026-11-01",
    "source": "our contract",
    "currency": "EUR",
    "dataproc_vcpu_hour": 0.01,
    "external_address_hour": 0.5,
    "spot_share": 0.4,
    "custom_share": 1.1,
    "gb_per_vcpu": {"n2": {"standard": 4}},
    "regions": {
        "europe-west1": {
            "families": {"n2": {"vcpu_hour": 1.0, "gb_hour": 0.25}},
            "machines": {"m1-ultramem-40": {"vcpus": 40, "hour": 7.0}},
            "disk_gb_month": {"pd-balanced": 0.73, "local-ssd": 7.3},
        }
    },
}
PRICES = parse_prices("mine.json", json.dumps(TABLE).encode())
#: secondary workers of a type that is not that of the primary ones
FLEXIBLE = {
    "machineTypeUri": None,
    "instanceFlexibilityPolicy": {"instanceSelectionList": [{"machineTypes": ["n2-highmem-32"], "rank": 0}]},
}
#: none of these clusters has a policy that would be asked for
NOBODY: Any = None
#: one n2-standard-4 with 100 GB pd-balanced, by that table: machine, Dataproc, disk
ONE = 4 * 1.0 + 16 * 0.25 + 4 * 0.01 + 0.1


def spec(**fields: Any) -> DataprocCluster:
    return DataprocCluster(**{"region": "europe-west1", **fields})


def request(wanted: DataprocCluster) -> dict[str, Any]:
    scripts = {name: f"gs://staging/{name}.sh" for name in ("nfs", "dask", "elastic")}
    owner, versions = Owner("prod", "flights", "manual__2026-11-01", "etl"), {"dask": "2026.8.0", "gcsfs": "2026.10.1"}
    there: dict[str, Any] = {"project_id": "acme-data", "scripts": scripts, "bucket": "dask", "versions": versions}
    return cluster_request(wanted, owner, PLANNED, **there)


def an_hour(wanted: DataprocCluster, prices: Prices = PRICES) -> float:
    return cost_per_hour(machines(request(wanted)["config"]), wanted.region, prices)


def test_each_machine_counts_with_disks_address_and_dataproc() -> None:
    assert an_hour(spec(workers=2)) == pytest.approx(3 * ONE)
    assert an_hour(spec(workers=1)) == pytest.approx(ONE)
    assert an_hour(spec(workers=2, internal_ip_only=False)) == pytest.approx(3 * (ONE + 0.5))
    ssd = {"machine_type": "n2-standard-4", "local_ssds": 2}
    assert an_hour(spec(workers=2, worker=ssd)) == pytest.approx(3 * ONE + 2 * 750 * 0.01)


def test_spot_custom_and_named_machines_have_their_own_prices() -> None:
    spot = 0.4 * 8.0 + 0.04 + 0.1
    assert an_hour(spec(secondary_workers=2)) == pytest.approx(3 * ONE + 2 * spot)
    assert an_hour(spec(secondary_workers=2, preemptibility="NON_PREEMPTIBLE")) == pytest.approx(5 * ONE)
    custom = 1.1 * (2 * 1.0 + 4 * 0.25) + 0.02 + 0.1
    assert an_hour(spec(workers=1, master="n2-custom-2-4096")) == pytest.approx(custom)
    assert an_hour(spec(workers=1, master="m1-ultramem-40", threads=1)) == pytest.approx(7.0 + 0.4 + 0.1)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"worker": "c4-standard-8"}, "mine.json has no price of c4-standard-8 in europe-west1"),
        ({"worker": "n2-highmem-4"}, "n2-highmem-4"),
        ({"worker": "n2-custom-4-65536-ext"}, "n2-custom-4-65536-ext"),
        ({"region": "us-central1"}, "the region us-central1"),
        ({"worker": {"disk_type": "hyperdisk-balanced"}}, "disks hyperdisk-balanced in europe-west1"),
        (
            {"cluster_config_overrides": {"config": {"workerConfig": {"accelerators": [{"acceleratorCount": 1}]}}}},
            r"accelerators \(workers\)",
        ),
        (
            {"cluster_config_overrides": {"config": {"workerConfig": {"diskConfig": {"bootDiskSizeGb": None}}}}},
            "boot disk of workers",
        ),
        (
            {"workers": (2, 10), "cluster_config_overrides": {"config": {"secondaryWorkerConfig": FLEXIBLE}}},
            r"machines of changing types \(secondary workers\)",
        ),
        ({"cluster_config_overrides": {"config": {"auxiliaryNodeGroups": [{"nodeGroup": {}}]}}}, "auxiliary"),
        ({"cluster_config_overrides": {"config": {"autoscalingConfig": {"policyUri": "p"}}}}, "autoscaling policy"),
    ],
)
def test_what_has_no_price_is_unknown_and_refused_where_a_limit_is_set(fields: dict[str, Any], named: str) -> None:
    free = spec(**fields)
    with pytest.raises(UnknownCost, match=named):
        most(request(free), free.region, PRICES)
    assert costs.check(free, request(free), PRICES).startswith("cost unknown: ")
    limited = spec(**fields, max_cost=1e9)
    with pytest.raises(InvalidInput, match=rf"DataprocCluster.max_cost: 1000000000.0 .*{named}"):
        costs.check(limited, request(limited), PRICES)


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(UnknownCost, match=r"c4-standard-2.*c4-standard-8"):
        an_hour(spec(master="c4-standard-2", worker="c4-standard-8"))


def test_the_limit_is_on_all_machines_for_the_whole_life() -> None:
    whole = 3 * ONE * 2
    cheap, dear = spec(max_lifetime="2h", max_cost=whole + 0.01), spec(max_lifetime="2h", max_cost=whole - 0.01)
    assert most(request(cheap), cheap.region, PRICES) == pytest.approx(whole)
    said = costs.check(cheap, request(cheap), PRICES)
    assert said.startswith(f"{3 * ONE:.2f} EUR an hour, at most {whole:.2f} EUR in 2 h (")
    assert "2026-11-01 from mine.json" in said
    with pytest.raises(InvalidInput, match=r"max_cost.*at least 48\.84 EUR for these machines"):
        costs.check(dear, request(dear), PRICES)


def test_overrides_of_number_and_lifetime_count() -> None:
    more = spec(
        max_lifetime="2h",
        cluster_config_overrides={
            "config": {"masterConfig": {"numInstances": 3}, "lifecycleConfig": {"autoDeleteTtl": "36000s"}}
        },
    )
    assert most(request(more), more.region, PRICES) == pytest.approx(5 * ONE * 10)
    moment = (datetime.now(timezone.utc) + timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ends = {"autoDeleteTtl": None, "autoDeleteTime": moment}
    until = spec(cluster_config_overrides={"config": {"lifecycleConfig": ends}})
    assert most(request(until), until.region, PRICES) == pytest.approx(3 * ONE * 5, rel=1e-3)


def test_what_grows_is_reckoned_with_all_that_it_may_grow_to() -> None:
    demand = spec(workers=(2, 10), max_lifetime="2h")
    assert an_hour(demand) == pytest.approx(3 * ONE)
    spot = 0.4 * 8.0 + 0.04 + 0.1
    assert most(request(demand), demand.region, PRICES) == pytest.approx(2 * (3 * ONE + 8 * spot))
    # Of the kind that the spec says, also as long as there is none of them.
    disks = {"machine_type": "n2-standard-4", "disk_gb": 1100}
    dear = spec(workers=(2, 10), max_lifetime="2h", preemptibility="NON_PREEMPTIBLE", secondary_worker=disks)
    made = request(dear)
    assert most(made, dear.region, PRICES) == pytest.approx(2 * (11 * ONE + 8 * 1.0))
    # Those that have come count once, also where Dataproc says nothing of those that have not.
    made["config"]["secondaryWorkerConfig"]["numInstances"] = 8
    assert most(made, dear.region, PRICES) == pytest.approx(2 * (11 * ONE + 8 * 1.0))
    del made["config"]["secondaryWorkerConfig"]
    assert most(made, dear.region, PRICES) == pytest.approx(2 * (3 * ONE + 8 * spot))
    yarn = spec(
        workers=(2, 10), runtime="yarn", memory="4 GiB", autoscaling_policy="grow", max_lifetime="2h", max_cost=1e6
    )
    with pytest.raises(InvalidInput, match=r"max_cost.*autoscaling policy \S+/grow decides"):
        costs.check(yarn, request(yarn), PRICES)
    grow = {"workerConfig": {"maxInstances": 6}, "secondaryWorkerConfig": {"maxInstances": 5}}
    assert most(request(yarn), yarn.region, PRICES, grow) == pytest.approx(2 * (7 * ONE + 5 * spot))
    assert "in 2 h" in costs.check(yarn, request(yarn), PRICES, grow)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"date": ""}, "'date'"),
        ({"source": None}, "'source'"),
        ({"regions": []}, "'regions'"),
        ({"dataproc_vcpu_hour": "free"}, "'dataproc_vcpu_hour'"),
        ({"spot_share": -1}, "spot_share"),
        ({"gb_per_vcpu": 4}, "gb_per_vcpu"),
        ({"regions": {"europe-west1": 3}}, r"regions\.europe-west1"),
        ({"regions": {"europe-west1": {"disks": {}}}}, "'disks'"),
        ({"regions": {"europe-west1": {"families": 3}}}, "'families'"),
        ({"regions": {"europe-west1": {"families": {"n2": {"vcpu_hour": 1}}}}}, "gb_hour in regions.europe-west1"),
        ({"regions": {"europe-west1": {"disk_gb_month": {"pd-ssd": "0.17"}}}}, "disk_gb_month.pd-ssd"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=rf"\[dask\] dataproc_prices: 'mine.json'.*{named}"):
        parse_prices("mine.json", json.dumps({**TABLE, **change}).encode())


def test_the_users_table_replaces_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = load_prices()
    assert (ours.currency, len(ours.date)) == ("USD", 10)
    assert "check them" in ours.source
    # 3 x n2-standard-4 with 100 GB pd-balanced in Belgium, reckoned by hand.
    by_hand = 3 * (4 * 0.034773 + 16 * 0.004661 + 4 * 0.010 + 100 * 0.1 / 730)
    assert an_hour(spec(), ours) == pytest.approx(by_hand)
    for region, disks in ours.table["regions"].items():
        assert set(disks["disk_gb_month"]) == {*DISK_TYPES, "local-ssd"} - {"hyperdisk-balanced"}, region
        assert set(disks["families"]) == set(ours.table["gb_per_vcpu"]), region
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(TABLE))
    monkeypatch.setenv("AIRFLOW__DASK__DATAPROC_PRICES", str(path))
    assert load_prices().currency == "EUR"
    path.write_text("{")
    with pytest.raises(InvalidInput, match=r"dataproc_prices.*JSON"):
        load_prices()
    monkeypatch.setenv("AIRFLOW__DASK__DATAPROC_PRICES", str(tmp_path / "none.json"))
    with pytest.raises(InvalidInput, match="dataproc_prices"):
        load_prices()


def handle(wanted: DataprocCluster, *, hours: float, expires: float) -> ClusterHandle:
    now = datetime.now(timezone.utc)
    return ClusterHandle(
        *("dataproc", "dask-x", "uid-1", {}),
        created=(now - timedelta(hours=hours)).isoformat(),
        expires=(now + timedelta(hours=expires)).isoformat(),
        details={"region": wanted.region, "machines": costs.noted(request(wanted))},
    )


async def test_what_it_has_cost_is_counted_from_creation_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(TABLE))
    monkeypatch.setenv("AIRFLOW__DASK__DATAPROC_PRICES", str(path))
    now, wanted = datetime.now(timezone.utc), spec(workers=2)
    made = handle(wanted, hours=2, expires=22)
    assert json.loads(json.dumps(made.to_dict()))["details"]["machines"][0]["machine_type"] == "n2-standard-4"

    found = {"clusterUuid": "uid-1", "config": request(wanted)["config"]}
    ended = (await costs.cost(NOBODY, made, found)).total(now)
    assert ended["amount"] == pytest.approx(2 * 3 * ONE, rel=1e-3)
    assert not ended["at_most"]
    assert sentence(ended).startswith(f"it has cost about {2 * 3 * ONE:.2f} EUR in 2.00 h (list prices of 2026-11-01")

    # Four workers by now: since when, nobody knows.
    grown = {**found, "config": request(spec(workers=4))["config"]}
    more = (await costs.cost(NOBODY, made, grown)).total(now)
    assert more["amount"] == pytest.approx(2 * 5 * ONE, rel=1e-3)
    assert more["at_most"]
    # From two to four by Dask's demand.
    elastic = request(spec(workers=(2, 4)))
    moved = (await costs.cost(NOBODY, handle(spec(workers=(2, 4)), hours=2, expires=22), {**found, **elastic})).total(
        now
    )
    assert moved["amount"] == pytest.approx(2 * (3 * ONE + 2 * (0.4 * 8.0 + 0.04 + 0.1)), rel=1e-3)
    assert moved["at_most"]
    # Two by now, and four before.
    fewer = (await costs.cost(NOBODY, handle(spec(workers=4), hours=2, expires=22), found)).total(now)
    assert fewer["amount"] == pytest.approx(2 * 5 * ONE, rel=1e-3)
    assert fewer["at_most"]

    # It went away by itself, at the latest an hour ago; another has its name.
    old = handle(wanted, hours=3, expires=-1)
    for there in (None, {**grown, "clusterUuid": "uid-2"}):
        gone = (await costs.cost(NOBODY, old, there)).total(now)
        assert gone["amount"] == pytest.approx(2 * 3 * ONE, rel=1e-3)
        assert gone["at_most"]


async def test_an_unknown_cost_is_no_zero() -> None:
    wanted = spec(worker="c4-standard-8")
    unknown = (await costs.cost(NOBODY, handle(wanted, hours=1, expires=1), None)).total(datetime.now(timezone.utc))
    assert "amount" not in unknown
    assert sentence(unknown).startswith("cost unknown: the provider's own table has no price of c4-standard-8")
    older = ClusterHandle("dataproc", "x", "u", {}, created="2026-11-01T00:00:00+00:00", details={"region": "x"})
    assert (await costs.cost(NOBODY, older, None)).per_hour is None


@pytest.mark.parametrize("fault", ["hangs", "no table"])
async def test_without_a_limit_a_cluster_needs_no_prices(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And a table that never comes keeps nobody else waiting, who reads a connection, say."""
    come, why = threading.Event(), "a file that is read in" if fault == "hangs" else "JSON"
    (tmp_path / "prices.json").write_text("no table")
    monkeypatch.setenv("AIRFLOW__DASK__DATAPROC_PRICES", str(tmp_path / "prices.json"))
    if fault == "hangs":
        monkeypatch.setattr(costs, "LOADED_WITHIN", 0.2)
        monkeypatch.setattr(costs, "load_prices", lambda: come.wait(20))
    try:
        with pytest.raises(InvalidInput, match=why):
            await costs.estimate(NOBODY, spec(max_cost=5), request(spec()))
        with caplog.at_level(logging.INFO, "dask_provider"):
            await costs.estimate(NOBODY, spec(), request(spec()))
        assert f"{request(spec())['clusterName']}: cost unknown: " in caplog.text
        assert why in caplog.text
        assert await asyncio.wait_for(sync_to_async(lambda: not come.is_set())(), 5)
    finally:
        come.set()
