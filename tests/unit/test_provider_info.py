"""What Airflow is told about this provider: by Airflow's own schema, and true."""

from __future__ import annotations

import json
from importlib import import_module, resources
from importlib.metadata import entry_points
from typing import Any

import airflow
import jsonschema
from dask_provider import __version__, config
from dask_provider.provider_info import get_provider_info

INFO = get_provider_info()


def load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def test_the_entry_point_is_found_and_fits_airflows_schema() -> None:
    (point,) = [p for p in entry_points(group="apache_airflow_provider") if p.dist.name == "airflow-provider-dask"]
    assert point.load()() == INFO
    schema = json.loads((resources.files(airflow) / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)
    assert INFO["versions"] == [__version__]


def test_every_class_that_is_named_exists() -> None:
    paths = [*INFO["extra-links"], *(entry["class-name"] for entry in INFO["task-decorators"])]
    paths += [entry["hook-class-name"] for entry in INFO["connection-types"]]
    assert len(paths) == 5
    for path in paths:
        assert load(path).__name__ == path.rpartition(".")[2]
    for entry in INFO["connection-types"]:
        assert load(entry["hook-class-name"]).conn_type == entry["connection-type"]


def test_all_links_of_the_operators_are_registered() -> None:
    """Or a serialized DAG shows none of them."""
    from dask_provider import operators

    used = {
        f"{type(link).__module__}.{type(link).__name__}"
        for name in operators.__all__
        for link in getattr(operators, name).operator_extra_links
    }
    assert used == set(INFO["extra-links"])


def test_documented_options_have_the_defaults_that_the_code_uses() -> None:
    options = INFO["config"]["dask"]["options"]
    assert {"instance", "state_dir", "staging", "sync_seconds", "dataproc_prices"} <= set(options)
    assert options["instance"]["default"] == config.DEFAULT_INSTANCE
    assert float(options["sync_seconds"]["default"]) == config.sync_seconds()
    assert options["dataproc_prices"]["default"] == config.dataproc_prices()
