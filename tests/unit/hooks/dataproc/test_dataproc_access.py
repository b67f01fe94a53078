"""Connections of Google as they are written, and the tokens that come of them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc.access import Access, NoCredentials, load_access


class TokenServer(HTTPServer):
    """Gives tokens that are numbered, or a refusal."""

    given = 0
    refuses = False
    slow = 0.0

    class RequestHandlerClass(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server = self.server
            assert isinstance(server, TokenServer)
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(server.slow)
            server.given += 1
            answer: dict[str, Any] = {"access_token": f"token-{server.given}", "expires_in": 3600}
            if server.refuses:
                answer = {"error": "invalid_grant", "error_description": "account not found"}
            self.send_response(400 if server.refuses else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args: object) -> None:
            pass


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(("127.0.0.1", 0), TokenServer.RequestHandlerClass) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode()


@pytest.fixture
def account(tokens: TokenServer, private_key: str) -> dict[str, str]:
    return {
        "type": "service_account",
        "project_id": "acme-data",
        "client_email": "airflow@acme-data.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": private_key,
        "token_uri": f"http://127.0.0.1:{tokens.server_port}/token",
    }


def connect(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], conn_type: str = "google_cloud_platform") -> Access:
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TEST", json.dumps({"conn_type": conn_type, "extra": extra}))
    return load_access("google_test")


@pytest.mark.parametrize("field", ["keyfile_dict", "extra__google_cloud_platform__keyfile_dict", "key_path", "default"])
def test_a_token_is_kept_until_the_server_refuses_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokens: TokenServer, account: dict[str, str], field: str
) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    given = {"key_path": {"key_path": str(path)}, "default": {}}
    access = connect(monkeypatch, given.get(field, {field: json.dumps(account)}))

    async def use() -> list[str | None]:
        at_once = await asyncio.gather(access.token(), access.token())
        return [*at_once, await access.token(), await access.token(fresh=True), await access.token()]

    assert asyncio.run(use()) == ["token-1", "token-1", "token-1", "token-2", "token-2"]
    assert (access.project_id, access.source) == ("acme-data", "connection google_test")
    assert "PRIVATE" not in repr(access)


def test_one_access_for_all_calls_until_connection_or_key_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokens: TokenServer, account: dict[str, str]
) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(account))
    first = connect(monkeypatch, {"key_path": str(path)})
    assert asyncio.run(first.token()) == "token-1"
    again = connect(monkeypatch, {"key_path": str(path)})
    assert asyncio.run(again.token()) == "token-1"
    other = connect(monkeypatch, {"key_path": str(path), "project": "acme-prod"})
    assert (other.project_id, asyncio.run(other.token())) == ("acme-prod", "token-2")
    path.write_text(json.dumps({**account, "project_id": "acme-new"}))
    assert connect(monkeypatch, {"key_path": str(path)}).project_id == "acme-new"


def test_many_waits_ask_once_and_do_not_hold_up_the_loop(
    monkeypatch: pytest.MonkeyPatch, tokens: TokenServer, account: dict[str, str]
) -> None:
    access = connect(monkeypatch, {"keyfile_dict": account})
    tokens.slow = 0.5

    async def use() -> tuple[list[str | None], int]:
        waits = asyncio.gather(*(access.token() for _ in range(100)))
        turns = 0
        while not waits.done():
            await asyncio.sleep(0.01)
            turns += 1
        return await waits, turns

    found, turns = asyncio.run(use())
    assert (set(found), tokens.given) == ({"token-1"}, 1)
    assert turns > 10


def test_what_the_connection_says_counts_more_than_the_key(
    monkeypatch: pytest.MonkeyPatch, account: dict[str, str]
) -> None:
    extra = {"keyfile_dict": account, "project": "acme-prod", "quota_project_id": "acme-quota"}
    access = connect(monkeypatch, {**extra, "dataproc.endpoint": "http://127.0.0.1:1"})
    assert (access.project_id, access.quota_project_id) == ("acme-prod", "acme-quota")
    assert access.endpoint == "http://127.0.0.1:1"


def test_impersonation_asks_for_the_last_of_the_chain(monkeypatch: pytest.MonkeyPatch, account: dict[str, str]) -> None:
    access = connect(monkeypatch, {"keyfile_dict": account, "impersonation_chain": "first@x.com, last@x.com"})
    assert access.credentials.service_account_email == "last@x.com"
    assert access.credentials._delegates == ["first@x.com"]


def test_google_refuses(monkeypatch: pytest.MonkeyPatch, tokens: TokenServer, account: dict[str, str]) -> None:
    tokens.refuses = True
    access = connect(monkeypatch, {"keyfile_dict": account})
    with pytest.raises(NoCredentials, match=r"connection google_test: Google gives no token: .*account not found"):
        asyncio.run(access.token())
    tokens.refuses = False
    assert connect(monkeypatch, {"keyfile_dict": account}) is not access, "the secret may have been replaced"


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"keyfile_dict": '{"private_key": "secret"'}, "keyfile_dict"),
        ({"keyfile_dict": {"type": "service_account", "private_key": "secret"}}, "keyfile_dict"),
        ({"key_path": "/no/such/key.json"}, "key_path"),
        ({"key_path": "/a", "keyfile_dict": {"private_key": "secret"}}, "extra"),
    ],
)
def test_credentials_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"connection google_test: {field}") as refused:
        connect(monkeypatch, extra)
    assert "secret" not in str(refused.value)


def test_connections_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="google_cloud_platform"):
        connect(monkeypatch, {}, conn_type="aws")
    with pytest.raises(InvalidInput, match="an Airflow connection that exists"):
        load_access("no_such_connection")
