"""The ``[dask]`` section."""

from __future__ import annotations

import pytest
from dask_provider import config
from dask_provider.errors import InvalidInput


def test_folders_follow_airflow_home_until_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__DASK__STATE_DIR", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", "/srv/airflow")
    assert config.state_dir() == "/srv/airflow/dask"
    assert config.staging() == "file:///srv/airflow/dask/staging/"
    monkeypatch.setenv("AIRFLOW__DASK__STATE_DIR", "~/dask/../state")
    monkeypatch.setenv("HOME", "/home/me")
    assert config.state_dir() == "/home/me/state"
    monkeypatch.setenv("AIRFLOW__DASK__STAGING", "s3://lake/staging//")
    assert config.staging() == "s3://lake/staging/"


def test_an_instance_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DASK__INSTANCE", " prod ")
    assert config.instance() == "prod"
    monkeypatch.setenv("AIRFLOW__DASK__INSTANCE", " ")
    with pytest.raises(InvalidInput, match=r"\[dask\] instance"):
        config.instance()


@pytest.mark.parametrize(
    ("place", "executor", "wanted", "deferrable"),
    [
        ("kubernetes", "CeleryExecutor", "True", True),
        ("kubernetes", "LocalExecutor", "False", False),
        ("local", "LocalExecutor", "True", True),
        ("local", "CeleryExecutor", "True", False),
        ("existing", "KubernetesExecutor", "True", False),
        ("existing", "LocalExecutor", "False", False),
    ],
)
def test_waits_on_this_host_defer_only_where_worker_and_triggerer_share_it(
    monkeypatch: pytest.MonkeyPatch, place: str, executor: str, wanted: str, deferrable: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", wanted)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    assert config.default_deferrable(place) is deferrable
