"""A namespace of its own for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.kubernetes.place import Namespace, airflow_in
from tests.servers.kubernetes import KubernetesServer


@pytest.fixture
async def place(kubernetes: KubernetesServer, namespace: str, tmp_path: Path) -> AsyncIterator[Namespace]:
    async with airflow_in(kubernetes, namespace, tmp_path) as place:
        yield place
