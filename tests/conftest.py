"""What all tests share."""

from __future__ import annotations

import os

import pytest

from tests.servers.airflow import airflow2, airflow3, flights
from tests.servers.kubernetes.fixtures import (
    api_namespace,
    kubernetes,
    kubernetes_api,
    namespace,
    pytest_collection_finish,
)
from tests.servers.yarn.fixtures import yarn

__all__ = [
    "airflow2",
    "airflow3",
    "api_namespace",
    "flights",
    "kubernetes",
    "kubernetes_api",
    "namespace",
    "pytest_collection_finish",
    "require",
    "yarn",
]


def require(what: str, available: bool) -> None:
    """Skips the test with one line where a server or tool is missing. With CI=true nothing may be missing."""
    if available:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}", pytrace=False)
    pytest.skip(f"missing: {what}")
