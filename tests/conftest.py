"""What all tests share."""

from __future__ import annotations

import os

import pytest

from tests.servers.airflow import airflow2, airflow3, flights

__all__ = ["airflow2", "airflow3", "flights", "require"]


def require(what: str, available: bool) -> None:
    """Skips the test with one line where a server or tool is missing. With CI=true nothing may be missing."""
    if available:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}", pytrace=False)
    pytest.skip(f"missing: {what}")
