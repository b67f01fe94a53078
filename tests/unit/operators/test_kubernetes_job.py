"""What is said of a plain job before it runs."""

from __future__ import annotations

import json

import pytest
from dask_provider.operators import KubernetesJobOperator


def test_a_dry_run_shows_no_value_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    env = [{"name": "PASSWORD", "value": "secret"}, {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s"}}}]
    container = {"name": "main", "image": "etl:1", "env": env}
    schema = {"containers": [container], "initContainers": ({"name": "wait", "image": "etl:1", "env": env[:1]},)}
    step = KubernetesJobOperator(task_id="run", env={"KEY": "secret"}, spec_schema=schema, arguments=["-m", "etl"])
    step.dry_run()
    printed = capsys.readouterr().out
    assert "secret" not in printed.replace("secretKeyRef", "")
    plan = json.loads(printed)["submit"]
    assert (plan["env"], plan["arguments"]) == (["KEY"], ["-m", "etl"])
    assert plan["spec_schema"]["containers"][0]["env"] == [{"name": "PASSWORD", "value": "***"}, env[1]]
    assert step.spec_schema == schema, "what will run is as it was"
