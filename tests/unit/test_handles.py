"""Records that travel by XCom: they come back as they were, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.outcomes import STATES, Outcome, read_outcome, worse

CLUSTER = ClusterHandle("local", "dask-x", "uid", {"dag_id": "d"}, details={"host": "h"}, needed=True)
JOB = JobHandle("local", "dask-x-1", "/there", 1, "file:///r/", "file:///m.json")


@pytest.mark.parametrize("record", [CLUSTER, JOB, Outcome("failed", exit_code=3, tail=["a"])])
def test_records_survive_json(record: ClusterHandle) -> None:
    travelled = json.loads(json.dumps(record.to_dict()))
    assert type(record).from_dict(travelled) == record
    assert type(record).from_dict(record) is record
    assert None not in travelled.values()


@pytest.mark.parametrize(
    "foreign",
    [None, "dask-x", 3, [CLUSTER.to_dict()], {}, {"place": "local"}, {**CLUSTER.to_dict(), "extra": 1}, JOB.to_dict()],
)
def test_anything_else_is_refused(foreign: object) -> None:
    with pytest.raises(InvalidInput, match=r"^ClusterHandle: "):
        ClusterHandle.from_dict(foreign)


@pytest.mark.parametrize("state", ["finished", "SUCCEEDED", "", None, 0, True])
def test_a_state_that_nobody_knows_is_never_success(state: object) -> None:
    outcome = read_outcome({"state": state}, missing="nothing was there")
    assert (outcome.state, outcome.succeeded) == ("unknown", False)
    assert repr(state) in outcome.reason
    assert not worse(Outcome("succeeded"), str(state), "says the place").succeeded


def test_a_record_that_is_missing_is_never_success() -> None:
    outcome = read_outcome(None, missing="nothing was there")
    assert (outcome.state, outcome.reason) == ("unknown", "nothing was there")


def test_a_newer_runtime_may_say_more() -> None:
    record = {"state": "succeeded", "exit_code": 0, "colour": "blue"}
    assert read_outcome(record, missing="") == Outcome("succeeded", exit_code=0)


@pytest.mark.parametrize("place", STATES)
@pytest.mark.parametrize("runtime", STATES)
def test_the_worse_of_two_verdicts_counts(runtime: str, place: str) -> None:
    seen = worse(Outcome(runtime, reason="because", exit_code=7), place, "evicted")
    assert STATES.index(seen.state) == max(STATES.index(runtime), STATES.index(place))
    assert seen.succeeded == (runtime == place == "succeeded")
    assert seen.exit_code == 7
    if STATES.index(place) > STATES.index(runtime):
        assert all(word in seen.reason for word in (place, "evicted", runtime, "because")), "both are shown"
    else:
        assert seen.reason == "because"
