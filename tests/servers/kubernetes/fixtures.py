"""The clusters of a test run: each started once, when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.kubernetes.prepare import prepare
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.kubernetes.start import start_kubernetes

_MODES = {"kubernetes": "node", "kubernetes_api": "api"}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing before the first test: a test's own time limit is no measure for that."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    for mode in [mode for name, mode in _MODES.items() if name in wanted]:
        try:
            prepare(mode, lambda line: reporter and reporter.write_line(line))
        except RuntimeError:  # the fixture says it, for the tests that need it
            continue


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[KubernetesServer]:
    """A node with pods, and the Dask operator."""
    yield from _running("node")


@pytest.fixture(scope="session")
def kubernetes_api() -> Iterator[KubernetesServer]:
    """An API server without pods, and without the operator."""
    yield from _running("api")


@pytest.fixture
def namespace(kubernetes: KubernetesServer) -> Iterator[str]:
    """A namespace of this test, where pods run."""
    with kubernetes.namespace() as name:
        yield name


@pytest.fixture
def api_namespace(kubernetes_api: KubernetesServer) -> Iterator[str]:
    """A namespace of this test, where no pod ever starts."""
    with kubernetes_api.namespace() as name:
        yield name


def _running(mode: str) -> Iterator[KubernetesServer]:
    from tests.conftest import require

    try:
        prepare(mode)
    except RuntimeError as error:
        require(f"Kubernetes ({error})", False)
    server = start_kubernetes(mode)
    try:
        if mode == "node":
            server.start_operator()
        yield server
    finally:
        server.stop()
