"""What can be wanted of a cluster: checked when it is written down, or when its templates are rendered."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from dask_provider.clusters import ClusterSpec, ExistingCluster, LocalCluster
from dask_provider.errors import InvalidInput
from dask_provider.hooks import hook_of

TCP = "tcp://scheduler:8786"


def test_defaults_keep_costs_at_bay() -> None:
    spec = LocalCluster()
    assert (spec.worker_range, spec.ready_workers, spec.thread_count, spec.memory_bytes) == ((2, 2), 2, 1, None)
    assert (spec.idle_seconds, spec.lifetime_seconds, spec.ready_seconds) == (600, 86400, 300)
    assert (spec.tls, dict(spec.env), spec.host) == (False, {}, "127.0.0.1")
    assert ExistingCluster(address=TCP).ready_workers == 1


def test_units_and_elastic_workers() -> None:
    spec = LocalCluster(workers=("2", 10), threads="4", memory="4 GiB", idle_timeout="10 min", max_lifetime="2h")
    assert (spec.worker_range, spec.ready_workers, spec.thread_count) == ((2, 10), 2, 4)
    assert (spec.memory_bytes, spec.idle_seconds, spec.lifetime_seconds) == (4 * 2**30, 600, 7200)
    assert LocalCluster(workers=(0, 3)).ready_workers == 0
    assert LocalCluster(workers=(2, 10), min_ready_workers=5, ready_timeout=timedelta(minutes=1)).ready_workers == 5


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"workers": 0}, "LocalCluster.workers", "a whole number of at least 1"),
        ({"workers": (4, 2)}, "LocalCluster.workers", "minimum <= maximum"),
        ({"threads": 1.5}, "LocalCluster.threads", "a whole number"),
        ({"memory": "4GBs"}, "LocalCluster.memory", "4 GiB"),
        ({"memory": 4}, "LocalCluster.memory", "at least 100.0 MiB"),
        ({"idle_timeout": 0}, "LocalCluster.idle_timeout", "seconds above zero"),
        ({"max_lifetime": "1 year"}, "LocalCluster.max_lifetime", "24h"),
        ({"ready_timeout": None}, "LocalCluster.ready_timeout", "seconds above zero"),
        ({"min_ready_workers": 3}, "LocalCluster.min_ready_workers", "at most 2"),
        ({"min_ready_workers": -1}, "LocalCluster.min_ready_workers", "at least 0"),
        ({"tls": "{{ params.tls }}"}, "LocalCluster.tls", "True or False"),
        ({"env": {"A B": "1"}}, "LocalCluster.env", "names of letters"),
        ({"env": {"COUNT": 1}}, "LocalCluster.env", "text values"),
        ({"env": "A=1"}, "LocalCluster.env", "a mapping"),
        ({"host": ""}, "LocalCluster.host", "not empty"),
        ({"wokers": 4}, "LocalCluster.wokers", "workers, threads"),
    ],
)
def test_a_local_cluster_that_cannot_be(fields: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        LocalCluster(**fields)
    assert refused.value.field == field
    assert allowed in refused.value.allowed
    (value,) = fields.values()
    assert str(refused.value) == f"{field}: {refused.value.value!r} is not possible; allowed: {refused.value.allowed}"
    assert refused.value.value == value


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "ExistingCluster.address, .conn_id"),
        ({"address": TCP, "conn_id": "dask"}, "ExistingCluster.address, .conn_id"),
        ({"address": "scheduler:8786"}, "ExistingCluster.address"),
        ({"address": "http://scheduler:8787"}, "ExistingCluster.address"),
        ({"address": "tcp://scheduler"}, "ExistingCluster.address"),
        ({"address": TCP, "tls": True}, "ExistingCluster.tls"),
        ({"address": TCP, "workers": 2}, "ExistingCluster.workers"),
    ],
)
def test_an_existing_cluster_that_cannot_be(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ExistingCluster(**fields)
    assert refused.value.field == field


def test_addresses() -> None:
    for address in (TCP, "tls://10.0.0.1:8786", "tcp://[::1]:8786", "{{ var.value.dask }}"):
        assert ExistingCluster(address=address).address == address


def render(value: Any) -> Any:
    """As Airflow does it: through containers, leaving what is no text."""
    if isinstance(value, str):
        return value.replace("{{ n }}", "3").replace("{{ bad }}", "lots")
    if isinstance(value, dict):
        return {name: render(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(render, value))
    return value


@pytest.mark.parametrize("name", ["workers", "threads", "memory", "idle_timeout", "max_lifetime", "ready_timeout"])
def test_templates_are_checked_once_they_are_rendered(name: str) -> None:
    spec = LocalCluster(**{name: "{{ bad }}"})
    with pytest.raises(InvalidInput) as refused:
        spec.rendered(render)
    assert (refused.value.field, refused.value.value) == (f"LocalCluster.{name}", "lots")


def test_rendered_fields() -> None:
    spec = LocalCluster(workers=(1, "{{ n }}"), min_ready_workers="{{ n }}", env={"N": "{{ n }}"}, memory="{{ n }} GiB")
    done = spec.rendered(render)
    assert (done.worker_range, done.ready_workers, done.env, done.memory_bytes) == ((1, 3), 3, {"N": "3"}, 3 * 2**30)
    assert spec.env == {"N": "{{ n }}"}, "the spec itself stays as it was"
    with pytest.raises(InvalidInput, match="at most 2"):
        LocalCluster(workers=2, min_ready_workers="{{ n }}").rendered(render)


def test_repr_shows_what_was_set_and_no_secret() -> None:
    spec = LocalCluster(workers=(1, 3), env={"TOKEN": "hunter2", "A": "secret"})
    assert repr(spec) == "LocalCluster(env={'A': '***', 'TOKEN': '***'}, workers=(1, 3))"
    assert repr(LocalCluster()) == "LocalCluster()"


def test_a_spec_is_a_value() -> None:
    spec = LocalCluster(workers=(1, 3), env={"A": "1"})
    assert copy.deepcopy(spec) == spec == pickle.loads(pickle.dumps(spec))
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.workers = 2  # type: ignore[misc]
    assert not hasattr(spec, "template_fields"), "Airflow's renderer sets attributes, and specs are frozen"


def test_hash_is_the_same_in_every_process_and_for_every_order_of_env() -> None:
    code = (
        "from dask_provider.clusters import LocalCluster;"
        "print(LocalCluster(env={'B': '2', 'A': '1'}, workers=(1, 3)).hash())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    spec = LocalCluster(workers=(1, 3), env={"A": "1", "B": "2"})
    assert spec.hash() == there
    assert spec.hash() == dataclasses.replace(spec, workers=[1, 3]).hash()  # type: ignore[arg-type]  as JSON gives it
    others = [{"workers": (1, 4)}, {"env": {"A": "1", "B": "3"}}, {"tls": True}, {"idle_timeout": 601}]
    assert len({spec.hash(), *(dataclasses.replace(spec, **other).hash() for other in others)}) == 5


def test_places_are_found_by_entry_point() -> None:
    for spec in (LocalCluster(), ExistingCluster(address=TCP)):
        assert type(hook_of(spec.place)) is type(hook_of(spec)) is type(hook_of(type(spec)))
        assert hook_of(spec).place == spec.place
    with pytest.raises(
        InvalidInput,
        match="place: 'moon' is not possible; allowed: an installed place: dataproc, existing, kubernetes, local",
    ):
        hook_of("moon")


def test_a_place_whose_client_library_is_missing_says_what_to_install() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
    class Moon(ClusterSpec):
        place = "moon"
        hook = "no_such_lunar_client.hooks:MoonHook"

    with pytest.raises(InvalidInput, match=r"no_such_lunar_client.*pip install 'airflow-provider-dask\[moon\]'"):
        hook_of(Moon())
