"""The YARN of a test run: started once, when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.yarn.jars import hadoop_jars
from tests.servers.yarn.server import YarnServer, start_yarn


@pytest.fixture(scope="session")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[YarnServer]:
    """A ResourceManager and two NodeManagers."""
    from tests.conftest import require

    try:
        hadoop_jars()
    except RuntimeError as error:
        require(f"YARN ({error})", False)
    server = start_yarn(2, tmp_path_factory.mktemp("yarn") / "state")
    try:
        yield server
    finally:
        server.stop()
