"""Which clusters are to go."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from dask_provider.clusters import LocalCluster
from dask_provider.errors import InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.operators import DaskReapClustersOperator
from dask_provider.operators.reaper import verdict
from dask_provider.owner import Owner

NOW = datetime(2024, 1, 2, tzinfo=timezone.utc)
OWNER = Owner("prod", "flights", "run-1", "etl").labels()


@pytest.mark.parametrize(
    ("expires", "over", "why"),
    [
        ("2024-01-03T00:00:00+00:00", False, None),
        (None, False, None),
        ("2024-01-03T00:00:00+00:00", True, "its run is over"),
        ("2024-01-01T23:59:59+00:00", False, "its lifetime ended 2024-01-01T23:59:59+00:00"),
        ("2024-01-02T02:00:00+01:00", False, None),
        ("2024-01-02T00:30:00+01:00", False, "its lifetime ended 2024-01-02T00:30:00+01:00"),
    ],
)
def test_verdicts(expires: str | None, over: bool, why: str | None) -> None:
    asked = []

    def is_over(dag_id: str, run_id: str) -> bool:
        asked.append((dag_id, run_id))
        return over

    handle = ClusterHandle("local", "dask-x", "u", OWNER, expires=expires)
    assert verdict(handle, NOW, is_over) == why
    assert set(asked) <= {("flights", "run-1")}


def test_it_deletes_only_under_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DASK__STATE_DIR", str(tmp_path))
    monkeypatch.delenv("AIRFLOW__DASK__INSTANCE", raising=False)
    reap = DaskReapClustersOperator(task_id="reap", places=[LocalCluster()], delete="True")
    reap._context = {}
    with pytest.raises(InvalidInput, match=r"^\[dask\] instance: 'default'"):
        reap.work()
    monkeypatch.setenv("AIRFLOW__DASK__INSTANCE", "prod")
    assert reap.work() == []
    reap.delete = "yes please"
    with pytest.raises(InvalidInput, match=r"^delete: 'yes please'.*true or false"):
        reap.work()
