"""By which proxy a server is reached, and who may share what was read."""

from __future__ import annotations

import pytest
from dask_provider.hooks.kubernetes.access import Access, environment_proxy


@pytest.mark.parametrize(
    ("server", "no_proxy", "used"),
    [
        ("https://k8s.example:6443", "", True),
        ("https://k8s.example:6443", "example", False),
        ("https://k8s.example:6443", ".example, x", False),
        ("https://k8s.example:6443", "8s.example", True),
        ("https://10.1.2.3", "10.0.0.0/8", False),
        ("https://10.1.2.3", "11.0.0.0/8,10.1.2.3:443", False),
        ("https://[fd00::1]:443", "fd00::/8", False),
        ("https://10.1.2.3", "*", False),
        ("https://127.0.0.1:6443", "", False),
    ],
)
def test_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, server: str, no_proxy: str, used: bool) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert environment_proxy(server) == ("http://proxy:3128" if used else None)


def test_nobody_shares_what_was_read_by_an_access_of_his_own() -> None:
    assert Access(server="https://x", source="").key != Access(server="https://x", source="").key
