"""One host: a state folder and the processes that belong to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.onehost import Host, one_host


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with one_host(tmp_path / "state") as host:
        yield host
