"""A cluster whose packages differ from the job's is refused before the program starts."""

from __future__ import annotations

from pathlib import Path

from dask_provider.clusters import LocalCluster

from tests.integration.onehost import Host

#: Imported by every Python of the cluster at its start.
PRETENDS = """
import importlib.metadata as metadata

told = metadata.version
metadata.version = lambda name: "2023.1.0" if name == "distributed" else told(name)
"""


async def test_another_version_of_distributed_is_refused(host: Host, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PRETENDS)
    spec = LocalCluster(workers=1, env={"PYTHONPATH": str(tmp_path)})
    told = await host.run(await host.ready(spec), "print('it ran')", env={"PYTHONPATH": ""})
    assert told.outcome.state == "failed"
    assert "versions differ: distributed 2023.1.0 (the job has " in told.outcome.reason
    assert "on the scheduler and 1 more" in told.outcome.reason
    assert "it ran" not in told.lines
