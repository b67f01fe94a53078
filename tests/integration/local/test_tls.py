"""With ``tls=True`` only who holds the cluster's own key gets in, and the key ends with the cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from dask_provider.clusters import LocalCluster

from tests.integration.onehost import Host

SCRIPT = """
    from distributed import Client
    with Client(timeout="20s") as client:
        print(client.scheduler.address.partition(":")[0], client.submit(sum, [1, 2]).result())
"""


async def test_tls(host: Host) -> None:
    from distributed import Client

    handle = await host.ready(LocalCluster(workers=1, tls=True))
    assert handle.scheduler_address.startswith("tls://")
    keys = list(Path(handle.details["folder"], "tls").iterdir())
    assert sorted(key.name for key in keys) == ["ca.pem", "cert.pem", "key.pem"]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    told = await host.run(handle, SCRIPT)
    assert told.outcome.succeeded, told.outcome
    assert "tls 3" in told.lines
    secret = (Path(handle.details["folder"]) / "tls" / "key.pem").read_text().splitlines()[1]
    assert not [path for path in host.state.rglob("*.json") if secret in path.read_text()]
    for scheme in ("tcp", "tls"):
        with pytest.raises((OSError, TypeError)):
            await Client(handle.scheduler_address.replace("tls", scheme, 1), asynchronous=True, timeout=2)
    await host.delete(handle)
    assert not [key for key in keys if key.exists()]
