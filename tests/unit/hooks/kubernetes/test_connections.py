"""Every form of a connection to Kubernetes, and what is said about one that cannot be used."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes import connections, tokens
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.connections import load_access
from dask_provider.hooks.kubernetes.tokens import NoCredentials

TOKEN = "eyJ-very-secret"


def _pair(name: str) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    pem, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    return (
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, pem, plain),
    )


CERT, KEY = _pair("flights")
CA, _ = _pair("authority")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def kubeconfig(user: dict[str, Any] | None = None, **cluster: Any) -> dict[str, Any]:
    """Two contexts: ``main``, with this user, and ``other``."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "clusters": [
            {"name": "c1", "cluster": {"server": "https://k8s.example:6443", **cluster}},
            {"name": "c2", "cluster": {"server": "https://other.example"}},
        ],
        "users": [{"name": "u1", "user": {"token": TOKEN} if user is None else user}, {"name": "u2", "user": {}}],
        "contexts": [
            {"name": "main", "context": {"cluster": "c1", "user": "u1", "namespace": "etl"}},
            {"name": "other", "context": {"cluster": "c2", "user": "u2"}},
        ],
    }


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes the connection ``k8s`` with these extras."""

    def make(extra: dict[str, Any], conn_type: str = "kubernetes") -> str:
        monkeypatch.setenv("AIRFLOW_CONN_K8S", json.dumps({"conn_type": conn_type, "extra": extra}))
        return "k8s"

    return make


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither in a pod nor with a kubeconfig nor behind a proxy."""
    monkeypatch.setattr(connections, "SERVICE_ACCOUNT", tmp_path / "no-pod")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("https_proxy", "http_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def _token(access: Access) -> str | None:
    return asyncio.run(_ask(access))


async def _ask(access: Access) -> str | None:
    return await access.token()


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This process as a pod with a service account."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "ca.crt").write_bytes(CA)
    (folder / "namespace").write_text("airflow")
    monkeypatch.setattr(connections, "SERVICE_ACCOUNT", folder)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return folder


# --- where the access comes from ---


@pytest.mark.parametrize("prefix", ["", "extra__kubernetes__"])
@pytest.mark.parametrize("form", [dict, json.dumps, yaml.safe_dump])
def test_a_kubeconfig_in_the_connection(
    connection: Callable[..., str], prefix: str, form: Callable[[Any], Any]
) -> None:
    access = load_access(connection({f"{prefix}kube_config": form(kubeconfig()), f"{prefix}namespace": "nightly"}))
    assert (access.server, access.namespace) == ("https://k8s.example:6443", "nightly")
    assert access.source == "connection k8s, user u1 of context main"
    assert _token(access) == TOKEN


def test_the_plain_field_counts_before_the_prefixed_one(connection: Callable[..., str]) -> None:
    extra = {"kube_config": kubeconfig(), "namespace": "", "extra__kubernetes__namespace": "old"}
    assert load_access(connection(extra)).namespace == "etl", "as with the cncf provider, empty is said, too"
    assert load_access(connection({**extra, "namespace": "new"})).namespace == "new"


def test_a_kubeconfig_file_and_paths_in_it_start_at_its_folder(connection: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    for name, content in (("ca.pem", CA), ("me.crt", CERT), ("me.key", KEY)):
        (folder / name).write_bytes(content)
    user = {"client-certificate": "me.crt", "client-key": "me.key"}
    (folder / "config").write_text(yaml.safe_dump(kubeconfig(user, **{"certificate-authority": "ca.pem"})))
    access = load_access(connection({"kube_config_path": str(folder / "config")}))
    assert (access.client_cert, access.client_key, access.ca_data) == (CERT, KEY, CA)
    assert _token(access) is None


def test_another_context(connection: Callable[..., str]) -> None:
    access = load_access(connection({"kube_config": kubeconfig(), "cluster_context": "other"}))
    assert (access.server, access.namespace) == ("https://other.example", None)
    assert _token(access) is None


@pytest.mark.parametrize("extra", [{}, {"in_cluster": True}, {"extra__kubernetes__in_cluster": "true"}])
def test_the_service_account_of_a_pod(connection: Callable[..., str], pod: Path, extra: dict[str, Any]) -> None:
    access = load_access(connection(extra))
    assert (access.server, access.namespace) == ("https://10.96.0.1:443", "airflow")
    assert access.ca_data == CA
    assert _token(access) == TOKEN
    (pod / "token").write_text("rotated")
    assert _token(access) == "rotated"
    (pod / "token").unlink()
    with pytest.raises(NoCredentials, match=r"token file .*/token cannot be read"):
        _token(access)


def test_without_a_connection_the_pod_counts_before_kubeconfigs(
    pod: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text(json.dumps(kubeconfig()))
    assert "the service account of this pod" in load_access(None).source
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert load_access(None).server == "https://[fd00::1]:443"
    monkeypatch.setattr(connections, "SERVICE_ACCOUNT", tmp_path / "no-pod")
    assert load_access(None).server == "https://k8s.example:6443"


def test_kubeconfig_may_be_several_files_and_the_first_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second, missing = tmp_path / "first", tmp_path / "second", tmp_path / "missing"
    first.write_text(json.dumps({"users": [{"name": "u1", "user": {"token": "of-first"}}]}))
    second.write_text(json.dumps(kubeconfig()))
    monkeypatch.setenv("KUBECONFIG", f"{missing}:{first}:{second}")
    assert _token(load_access(None)) == "of-first"


# --- how one signs in ---


def test_certificates_as_data(connection: Callable[..., str]) -> None:
    user = {"client-certificate-data": _b64(CERT), "client-key-data": _b64(KEY)}
    access = load_access(connection({"kube_config": kubeconfig(user, **{"certificate-authority-data": _b64(CA)})}))
    context = access.tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT, "authorities of many clusters are not made so strictly"
    assert context.cert_store_stats()["x509"] == 1, "only the cluster's own authority"
    assert context is load_access("k8s").tls(), "made once"


def test_no_verification(connection: Callable[..., str]) -> None:
    for extra in (
        {"kube_config": kubeconfig(**{"insecure-skip-tls-verify": True})},
        {"kube_config": kubeconfig(), "disable_verify_ssl": "True"},
    ):
        access = load_access(connection(extra))
        assert access.tls().verify_mode is ssl.CERT_NONE


def test_a_token_file_is_read_again(connection: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    access = load_access(connection({"kube_config": kubeconfig({"tokenFile": str(file), "token": "old"})}))
    assert _token(access) == "one", "counts before token, as with kubectl"
    file.write_text("two\n")
    assert _token(access) == "two"


def test_user_password_and_acting_as_somebody(connection: Callable[..., str]) -> None:
    user = {"username": "me", "password": "secret", "as": "robot", "as-groups": ["a", "b"]}
    headers = load_access(connection({"kube_config": kubeconfig(user)})).headers
    assert headers == (
        ("Authorization", "Basic " + _b64(b"me:secret")),
        ("Impersonate-User", "robot"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
    )


def _plugin(tmp_path: Path, body: str, **more: Any) -> dict[str, Any]:
    """A user whose token comes from a program, which notes each start in ``starts``."""
    script = tmp_path / "plugin.py"
    script.write_text(f"import json, os, sys\nopen({str(tmp_path / 'starts')!r}, 'a').write('x')\n{body}\n")
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": sys.executable, "args": [str(script)], **more}}


PRINT = "print(json.dumps({'kind': 'ExecCredential', 'status': %s}))"


def test_a_program_gets_the_token_once_until_it_expires(connection: Callable[..., str], tmp_path: Path) -> None:
    later = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    body = PRINT % f"{{'token': os.environ['WHO'], 'expirationTimestamp': {later!r}}}"
    user = _plugin(tmp_path, body, env=[{"name": "WHO", "value": TOKEN}])
    access = load_access(connection({"kube_config": kubeconfig(user)}))

    async def many() -> set[str | None]:
        return set(await asyncio.gather(*(access.token() for _ in range(5))))

    assert asyncio.run(many()) == {TOKEN}
    assert asyncio.run(many()) == {TOKEN}, "on another loop, too"
    assert (tmp_path / "starts").read_text() == "x"
    access.forget()
    assert _token(access) == TOKEN
    assert (tmp_path / "starts").read_text() == "x", "a token that is just made is not the reason for a 401"
    access.token._made -= 10  # type: ignore[attr-defined]
    access.forget()
    assert _token(access) == TOKEN
    assert (tmp_path / "starts").read_text() == "xx"


def test_a_token_that_is_about_to_expire_is_renewed(connection: Callable[..., str], tmp_path: Path) -> None:
    soon = (datetime.now(timezone.utc) + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    user = _plugin(tmp_path, PRINT % f"{{'token': 't', 'expirationTimestamp': {soon!r}}}")
    access = load_access(connection({"kube_config": kubeconfig(user)}))
    assert [_token(access), _token(access)] == ["t", "t"]
    assert (tmp_path / "starts").read_text() == "xx"


def test_a_program_learns_about_the_cluster(connection: Callable[..., str], tmp_path: Path) -> None:
    body = "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n" + PRINT % "{'token': json.dumps(info)}"
    user = _plugin(tmp_path, body, provideClusterInfo=True)
    info = json.loads(_token(load_access(connection({"kube_config": kubeconfig(user)}))) or "")
    assert info["spec"] == {"interactive": False, "cluster": {"server": "https://k8s.example:6443"}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sys.exit('no such account')", "ended with 1: no such account"),
        (f"print({TOKEN!r})", "did not print an ExecCredential"),
        (PRINT % f"{{'clientCertificateData': {TOKEN!r}}}", "printed a certificate, not a token"),
        (PRINT % "{'token': ''}", "printed no token"),
    ],
)
def test_a_program_that_fails(connection: Callable[..., str], tmp_path: Path, body: str, said: str) -> None:
    access = load_access(connection({"kube_config": kubeconfig(_plugin(tmp_path, body))}))
    with pytest.raises(NoCredentials, match=f"user u1: exec: .*{said}") as error:
        _token(access)
    assert TOKEN not in str(error.value)


def test_a_program_that_is_missing_or_hangs(
    connection: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = {"exec": {"command": "no-such-plugin", "installHint": "install it"}}
    with pytest.raises(NoCredentials, match=r"no-such-plugin: No such file or directory\. install it"):
        _token(load_access(connection({"kube_config": kubeconfig(user)})))
    monkeypatch.setattr(tokens, "PLUGIN_SECONDS", 0.3)
    access = load_access(connection({"kube_config": kubeconfig(_plugin(tmp_path, "import time; time.sleep(60)"))}))
    with pytest.raises(NoCredentials, match=r"did not end within 0\.3 s"):
        _token(access)


# --- proxies ---


def test_the_proxy_of_the_kubeconfig(connection: Callable[..., str]) -> None:
    config = kubeconfig(**{"proxy-url": "http://me:pass@proxy:3128", "tls-server-name": "kubernetes"})
    access = load_access(connection({"kube_config": config}))
    assert (access.proxy, access.server_name) == ("http://me:pass@proxy:3128", "kubernetes")
    with pytest.raises(InvalidInput, match=r"proxy-url: 'socks5://proxy'"):
        load_access(connection({"kube_config": kubeconfig(**{"proxy-url": "socks5://proxy"})}))


# --- what cannot be used, and secrets ---


def _changed(**changes: Any) -> dict[str, Any]:
    return {"kube_config": {**kubeconfig(), **changes}}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"in_cluster": True}, r"connection k8s: in_cluster: True .* only in a pod .* no KUBERNETES_SERVICE_HOST"),
        ({"in_cluster": "perhaps"}, r"connection k8s: in_cluster: 'perhaps'"),
        ({"in_cluster": True, "kube_config": "{}"}, r"extra: \['kube_config', 'in_cluster'\] .* one of them"),
        ({"kube_config_path": "/no/such"}, r"kube_config_path: '/no/such' .* \(No such file or directory\)"),
        ({"kube_config_path": 3}, r"kube_config_path: 3 .* text"),
        ({"kube_config": f"users: [{TOKEN}"}, r"kube_config: '\(not shown\)' .* JSON or YAML \(line 1\)"),
        ({"kube_config": f"users: {TOKEN}"}, r"kube_config: '\(not shown\)'"),
        ({"kube_config": f"- {TOKEN}"}, r"kube_config: '\(not shown\)'"),
        (_changed(**{"current-context": ""}), r"current-context: None .* one of main, other; or cluster_context"),
        (_changed(users=[]), r"context main: user: 'u1' .* one of users: \(there is none\)"),
        (_changed(clusters=[]), r"context main: cluster: 'c1'"),
        ({"kube_config": kubeconfig(), "cluster_context": "x"}, r"cluster_context: 'x' .* contexts: main, other"),
        ({"kube_config": kubeconfig(server="k8s:6443")}, r"context main: server: 'k8s:6443' .* https://10.0.0.1:6443"),
        ({"kube_config": kubeconfig(server=f"https://me:{TOKEN}@x")}, r"server: '\(not shown\)'"),
        ({"kube_config": kubeconfig({"auth-provider": {"name": "gcp"}})}, r"user u1: auth-provider: "),
        ({"kube_config": kubeconfig({"exec": {"command": ""}})}, r"user u1: exec\.command"),
        (
            {"kube_config": kubeconfig({"exec": {"command": "x", "interactiveMode": "Always"}})},
            r"exec\.interactiveMode: 'Always'",
        ),
        ({"kube_config": kubeconfig({"exec": {"command": "./x"}})}, r"exec\.command: '\./x' .* absolute"),
        ({"kube_config": kubeconfig({"tokenFile": "token"})}, r"user u1: tokenFile: 'token' .* absolute path"),
        ({"kube_config": kubeconfig({"tokenFile": "/no/token"})}, r"user u1: tokenFile: '/no/token'"),
        ({"kube_config": kubeconfig({"token": f"{TOKEN}\nx"})}, r"user u1: token: '\(not shown\)' .* one line"),
        ({"kube_config": kubeconfig({"client-certificate-data": _b64(CERT)})}, r"user u1: .* both or none"),
        (
            {
                "kube_config": kubeconfig(
                    {"client-certificate-data": _b64(CERT), "client-key-data": _b64(_pair("b")[1])}
                )
            },
            r"user u1: certificates: '\(not shown\)' .* \(KEY_VALUES_MISMATCH\)",
        ),
        ({"kube_config": kubeconfig(**{"certificate-authority-data": "%"})}, r"authority-data: .* base64"),
        ({"kube_config": kubeconfig(**{"certificate-authority-data": _b64(b"no")})}, r"user u1: certificates"),
        ({"kube_config": kubeconfig(**{"certificate-authority-data": "abc"})}, r"authority-data: .* base64"),
        ({}, r"conn_id: 'k8s' .* there is no .*/\.kube/config"),
    ],
)
def test_refused_with_the_field_and_without_secrets(
    connection: Callable[..., str], extra: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as error:
        load_access(connection(extra))
    assert TOKEN not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None, "a parser's error quotes the text"


def test_connections_that_are_none(connection: Callable[..., str]) -> None:
    with pytest.raises(InvalidInput, match="conn_id: 'nobody'"):
        load_access("nobody")
    with pytest.raises(InvalidInput, match="connection k8s: conn_type: 'aws'"):
        load_access(connection({}, conn_type="aws"))
    with pytest.raises(InvalidInput, match="conn_id: None"):
        load_access(None)


def test_nothing_secret_is_shown(connection: Callable[..., str]) -> None:
    user = {"client-certificate-data": _b64(CERT), "client-key-data": _b64(KEY), "token": TOKEN}
    access = load_access(connection({"kube_config": kubeconfig(user)}))
    expected = "Access('https://k8s.example:6443', source='connection k8s, user u1 of context main', namespace='etl')"
    assert repr(access) == str(access) == expected


def test_equal_access_has_an_equal_key(connection: Callable[..., str]) -> None:
    first = load_access(connection({"kube_config": kubeconfig()}))
    assert load_access("k8s").key == first.key
    assert load_access(connection({"kube_config": kubeconfig({"token": "another"})})).key != first.key
