"""What the client and the shared watch promise, against a real API server.

What it cannot be told to do on demand (to be busy, to break off in the middle of a line) a few lines of HTTP do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from dask_provider.hooks.kubernetes import client as module
from dask_provider.hooks.kubernetes import streams
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.connections import load_access
from dask_provider.hooks.kubernetes.errors import ApiError, Expired, NotStarted, Unreachable, Untrusted
from dask_provider.hooks.kubernetes.feed import Feed
from dask_provider.hooks.kubernetes.paths import configmaps, daskclusters, jobs, pods, services
from dask_provider.hooks.kubernetes.times import rfc3339

from tests.integration.kubernetes.manifests import dask_cluster, job
from tests.integration.place import until
from tests.servers.kubernetes import KubernetesServer
from tests.servers.listening import free_port


def access_to(kubeconfig: Path, patch: pytest.MonkeyPatch) -> Access:
    extra = {"kube_config_path": str(kubeconfig)}
    patch.setenv("AIRFLOW_CONN_K8S", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    return load_access("k8s")


@pytest.fixture
def access(kubernetes_api: KubernetesServer, monkeypatch: pytest.MonkeyPatch) -> Access:
    return access_to(kubernetes_api.kubeconfig, monkeypatch)


@pytest.fixture
async def k(access: Access) -> AsyncIterator[Client]:
    async with Client(access) as client:
        yield client


def config(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"of": "test"}}, "data": data}


# --- objects ---


async def test_create_get_list_patch_delete(k: Client, api_namespace: str) -> None:
    made = await k.create(configmaps(api_namespace), config("one", a="1"))
    await k.create(configmaps(api_namespace), {**config("two"), "metadata": {"name": "two"}})
    path = configmaps(api_namespace, "one")
    assert (await k.get(path))["data"] == {"a": "1"}

    listed = await k.list(configmaps(api_namespace), labels={"of": "test"})
    assert [item["metadata"]["name"] for item in listed["items"]] == ["one"]
    listed = await k.list(configmaps(api_namespace), fields="metadata.name=two")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["two"]

    changed = await k.patch(path, {"data": {"b": "2"}})
    assert changed["data"] == {"a": "1", "b": "2"}
    changed = await k.patch(path, [{"op": "remove", "path": "/data/a"}], kind="json")
    assert changed["data"] == {"b": "2"}

    await k.delete(path, uid=made["metadata"]["uid"], propagation="Background")
    with pytest.raises(ApiError, match=r'^configmaps "one" not found \(404 NotFound\)$') as error:
        await k.get(path)
    assert (error.value.status, error.value.reason, error.value.details["name"]) == (404, "NotFound", "one")


@pytest.mark.parametrize("kind", ["merge", "json"])
async def test_changes_only_of_what_was_seen(k: Client, api_namespace: str, kind: str) -> None:
    seen = (await k.create(configmaps(api_namespace), config("one")))["metadata"]
    path = configmaps(api_namespace, "one")
    change: Any = {"data": {"b": "2"}} if kind == "merge" else [{"op": "add", "path": "/data", "value": {"b": "2"}}]
    newer = (await k.patch(path, change, kind=kind, resource_version=seen["resourceVersion"], uid=seen["uid"]))[
        "metadata"
    ]
    other = "11111111-1111-1111-1111-111111111111"
    for wrong in ({"resource_version": seen["resourceVersion"]}, {"uid": other}):
        with pytest.raises(ApiError) as error:
            await k.patch(path, change, kind=kind, **wrong)
        assert (error.value.status, error.value.reason) == (409, "Conflict"), error.value
        with pytest.raises(ApiError) as error:
            await k.delete(path, **wrong)
        assert (error.value.status, error.value.reason) == (409, "Conflict"), error.value
    assert (await k.get(path))["metadata"]["resourceVersion"] == newer["resourceVersion"], "nothing was changed"
    await k.delete(path, uid=seen["uid"], resource_version=newer["resourceVersion"])


async def test_a_dry_run_creates_nothing_and_what_exists_is_said(k: Client, api_namespace: str) -> None:
    await k.create(configmaps(api_namespace), config("one"), dry_run=True)
    assert (await k.list(configmaps(api_namespace), labels="of=test"))["items"] == []
    await k.create(configmaps(api_namespace), config("one"))
    with pytest.raises(ApiError, match=r'configmaps "one" already exists \(409 AlreadyExists\)'):
        await k.create(configmaps(api_namespace), config("one"))


async def test_an_object_of_the_operator(k: Client, api_namespace: str) -> None:
    path = daskclusters(api_namespace)
    await k.create(path, dask_cluster("sums", api_namespace, workers=1))
    wanted = {"spec": {"worker": {"replicas": 3}}}
    assert (await k.patch(daskclusters(api_namespace, "sums"), wanted))["spec"]["worker"]["replicas"] == 3
    with pytest.raises(ApiError, match=r"spec\.worker\.replicas.*\(422 Invalid\)"):
        await k.patch(daskclusters(api_namespace, "sums"), {"spec": {"worker": {"replicas": "many"}}})


@pytest.mark.parametrize("propagation", ["Foreground", "Background"])
async def test_the_owner_goes_with_what_it_owns(k: Client, api_namespace: str, propagation: str) -> None:
    lease = await k.create(jobs(api_namespace), job("lease", api_namespace, ["sleep", "60"]))
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "lease", "uid": lease["metadata"]["uid"]}
    owned = config("owned")
    owned["metadata"]["ownerReferences"] = [{**owner, "blockOwnerDeletion": True}]
    await k.create(configmaps(api_namespace), owned)
    await k.delete(jobs(api_namespace, "lease"), uid=owner["uid"], propagation=propagation, grace=0)
    end = time.monotonic() + 60
    while (await k.list(configmaps(api_namespace), labels="of=test"))["items"]:
        assert time.monotonic() < end
        await asyncio.sleep(0.2)


# --- who we are, and what is said when it does not work ---


async def test_what_an_account_may(
    kubernetes_api: KubernetesServer, api_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"]}]
    kubeconfig = kubernetes_api.service_account(api_namespace, "reader", rules)
    async with Client(access_to(kubeconfig, monkeypatch)) as k:
        allowed, reason = await k.may("list", "batch", "jobs", api_namespace)
        assert allowed
        assert "RoleBinding" in reason
        assert await k.may("create", "batch", "jobs", api_namespace) == (False, "")
        assert await k.may("get", "", "pods", api_namespace, "log") == (False, "")
        await k.list(jobs(api_namespace))
        message = rf'jobs\.batch is forbidden: User ".*:reader" cannot create .* "{api_namespace}" \(403 Forbidden\)$'
        with pytest.raises(ApiError, match=message):
            await k.create(jobs(api_namespace), job("x", api_namespace, ["true"]))


async def test_a_token_file_is_read_again_once_it_was_refused(
    kubernetes_api: KubernetesServer, api_namespace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    kubeconfig = json.loads(kubernetes_api.service_account(api_namespace, "rotating", rules).read_text())
    token, file = kubeconfig["users"][0]["user"]["token"], tmp_path / "token"
    kubeconfig["users"][0]["user"] = {"tokenFile": str(file)}
    (tmp_path / "config").write_text(json.dumps(kubeconfig))
    file.write_text("out-of-date")
    access = access_to(tmp_path / "config", monkeypatch)
    async with Client(access) as k:
        message = (
            rf"^{kubernetes_api.url} does not accept the credentials of connection k8s, user tests of context tests: "
            r"Unauthorized \(401 Unauthorized\)$"
        )
        with pytest.raises(ApiError, match=message):
            await k.list(configmaps(api_namespace))
        file.write_text(token)
        assert (await k.list(configmaps(api_namespace)))["kind"] == "ConfigMapList"
        # Renewed between the two tries of one call.
        file.write_text("out-of-date")
        async with Client(replace(access, forget=lambda: file.write_text(token) and None)) as again:
            await again.list(configmaps(api_namespace))
        file.unlink()
        with pytest.raises(ApiError, match=rf"the token file {file} cannot be read: .* \(401 Unauthorized\)"):
            await k.list(configmaps(api_namespace))


async def test_a_server_that_is_not_there(access: Access) -> None:
    nowhere = f"https://127.0.0.1:{free_port()}"
    began = time.monotonic()
    async with Client(replace(access, server=nowhere), patience=2) as k:
        for attempt in (k.get("/version"), k.create("/x", {}), k.log("x", "y").__anext__()):
            with pytest.raises(Unreachable, match=rf"the Kubernetes API at {nowhere} cannot be reached: .*refused"):
                await attempt
    assert time.monotonic() - began < 20
    unknown = "https://no-such-host.invalid"
    async with Client(replace(access, server=unknown), patience=1) as k:
        with pytest.raises(Unreachable, match=rf"at {unknown} cannot be reached: "):
            await k.get("/version")


async def test_a_certificate_that_is_not_trusted(access: Access) -> None:
    own_ca_missing = replace(access, ca_data=None)
    other_name = replace(access, server_name="elsewhere.example")
    for wrong, reason in (
        (own_ca_missing, "unable to get local issuer|self.signed"),
        (other_name, "Hostname mismatch"),
    ):
        async with Client(wrong) as k:
            began = time.monotonic()
            message = rf"the certificate of {access.server} is not trusted \(.*({reason}).*\); .*certificate-authority"
            for attempt in (k.get("/version"), k.create("/x", {})):
                with pytest.raises(Untrusted, match=message):
                    await attempt
            assert time.monotonic() - began < 20, "waiting would not help"
    async with Client(replace(own_ca_missing, verify=False)) as k:
        assert (await k.get("/version"))["major"] == "1"
    async with Client(replace(access, server_name="kubernetes.default")) as k:
        assert (await k.get("/version"))["major"] == "1"


async def test_a_namespace_and_a_resource_type_that_do_not_exist(k: Client, api_namespace: str) -> None:
    with pytest.raises(ApiError, match=r'^namespaces "nowhere" not found \(404 NotFound\)$') as error:
        await k.create(configmaps("nowhere"), config("x"))
    assert error.value.details["kind"] == "namespaces"
    with pytest.raises(ApiError, match=r"/daskwishes: 404 page not found \(404 Not Found\)"):
        await k.list(f"/apis/kubernetes.dask.org/v1/namespaces/{api_namespace}/daskwishes")
    with pytest.raises(ApiError) as error:
        await k.get(configmaps("../../..", "x"))
    assert error.value.status in (400, 404), "a name cannot lead elsewhere"


async def test_a_service_without_pods(k: Client, api_namespace: str) -> None:
    spec = {"selector": {"of": "nobody"}, "ports": [{"name": "http", "port": 80}]}
    await k.create(
        services(api_namespace), {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}
    )

    async def refusal() -> ApiError:
        with pytest.raises(ApiError) as error:
            await k.proxy_get(api_namespace, "s", "http", "/health")
        return error.value

    for _ in range(100):
        error = await refusal()
        if error.status != 404:  # its endpoints are still to be made
            break
        await asyncio.sleep(0.2)
    assert re.fullmatch(r'no endpoints available for service "s(:http)?" \(503 ServiceUnavailable\)', str(error))


async def test_nothing_secret_in_what_can_be_shown(access: Access, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def token() -> str:
        return "very-secret"

    async with Client(replace(access, client_cert=None, client_key=None, token=token), patience=1) as k:
        with pytest.raises(ApiError) as refused:
            await k.get("/api/v1/pods")
    async with Client(replace(access, server=f"https://127.0.0.1:{free_port()}", token=token), patience=1) as k:
        with pytest.raises(ApiError) as away:
            await k.get("/api/v1/pods")
    for error in (refused.value, away.value):
        assert error.__cause__ is None
        assert "secret" not in f"{error!r} {error} {error.details}"
    assert "very-secret" not in caplog.text


# --- watches ---


async def test_a_watch(k: Client, api_namespace: str) -> None:
    version = (await k.list(configmaps(api_namespace)))["metadata"]["resourceVersion"]
    path = configmaps(api_namespace, "one")
    await k.create(configmaps(api_namespace), {**config("unlabelled"), "metadata": {"name": "unlabelled"}})
    await k.create(configmaps(api_namespace), config("one"))
    await k.patch(path, {"data": {"a": "1"}})
    await k.delete(path, propagation="Background")
    # Connections that last a second only: more than one is needed, and nothing is left out or told twice.
    seen: list[Any] = []

    async def watch() -> None:
        async for kind, it in k.watch(configmaps(api_namespace), resource_version=version, labels="of=test", timeout=1):
            seen.append((kind, it.get("data")))

    watching = asyncio.create_task(watch())
    await until(lambda: len(seen) == 3)
    await asyncio.sleep(2.5)
    await k.create(configmaps(api_namespace), config("two"))
    await until(lambda: len(seen) == 4)
    watching.cancel()
    assert seen == [("ADDED", None), ("MODIFIED", {"a": "1"}), ("DELETED", {"a": "1"}), ("ADDED", None)]


class Relay:
    """A port that leads to the API server, until it is cut or goes silent."""

    def __init__(self, target: str) -> None:
        host, _, port = target.partition("://")[2].rpartition(":")
        self._target = (host, int(port))
        self._writers: list[asyncio.StreamWriter] = []
        self.port = free_port()
        self.connections = 0
        self.silent = False
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """No more connections, and none of those that are there."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, to_server = await asyncio.open_connection(*self._target)
        self._writers += [writer, to_server]
        await asyncio.gather(self._pump(reader, to_server), self._pump(there, writer), return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if not self.silent:
                target.write(data)
                await target.drain()
        target.close()


@pytest.fixture
async def relay(kubernetes_api: KubernetesServer) -> AsyncIterator[Relay]:
    relay = Relay(kubernetes_api.url)
    await relay.open()
    yield relay
    await relay.cut()


async def test_a_watch_goes_on_after_its_connection_was_cut(
    access: Access, k: Client, api_namespace: str, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    version = (await k.list(configmaps(api_namespace)))["metadata"]["resourceVersion"]
    names: list[str] = []

    async def watch() -> None:
        async with Client(replace(access, server=f"https://127.0.0.1:{relay.port}")) as watcher:
            async for _, found in watcher.watch(configmaps(api_namespace), resource_version=version, labels="of=test"):
                names.append(found["metadata"]["name"])

    watching = asyncio.create_task(watch())
    for number in range(3):
        await k.create(configmaps(api_namespace), config(f"before-{number}"))
        await until(lambda n=number: f"before-{n}" in names)
        await relay.cut()
        await k.create(configmaps(api_namespace), config(f"meanwhile-{number}"))
        await asyncio.sleep(0.5)
        await relay.open()
        await until(lambda n=number: f"meanwhile-{n}" in names)
    watching.cancel()
    assert names == [f"{when}-{number}" for number in range(3) for when in ("before", "meanwhile")]
    assert caplog.text.count("trying again") <= 6, "one line for each time that it was away"
    assert "the Kubernetes API answers again" in caplog.text


async def test_a_connection_that_went_silent_is_noticed(
    access: Access, k: Client, api_namespace: str, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLACK", 1)
    version = (await k.list(configmaps(api_namespace)))["metadata"]["resourceVersion"]
    async with Client(replace(access, server=f"https://127.0.0.1:{relay.port}")) as watcher:
        changes = watcher.watch(configmaps(api_namespace), resource_version=version, labels="of=test", timeout=2)
        coming = asyncio.ensure_future(changes.__anext__())
        await until(lambda: relay.connections == 1)
        await asyncio.sleep(0.5)
        relay.silent = True
        await k.create(configmaps(api_namespace), config("unheard"))
        await until(lambda: relay.connections == 2)
        relay.silent = False
        await relay.cut()
        await relay.open()
        kind, found = await asyncio.wait_for(coming, 30)
        assert (kind, found["metadata"]["name"]) == ("ADDED", "unheard")
        await changes.aclose()


async def test_a_version_that_is_too_old(kubernetes_api: KubernetesServer, k: Client, api_namespace: str) -> None:
    version = (await k.list(configmaps(api_namespace)))["metadata"]["resourceVersion"]
    await k.create(configmaps(api_namespace), config("one"))
    kubernetes_api.control("restart", "apiserver")  # the new one does not know what was before
    kubernetes_api.wait_ready()
    with pytest.raises(Expired, match=r"too old resource version.*\(410 (Expired|Gone)\)"):
        await k.watch(configmaps(api_namespace), resource_version=version).__anext__()


async def test_reads_and_refused_changes_wait_for_a_server_that_restarts(
    kubernetes_api: KubernetesServer, k: Client, api_namespace: str
) -> None:
    kubernetes_api.control("kill", "apiserver")
    k.patience = 90
    reading = asyncio.create_task(k.list(configmaps(api_namespace)))
    creating = asyncio.create_task(k.create(configmaps(api_namespace), config("patient")))
    await asyncio.sleep(1)
    kubernetes_api.control("start", "apiserver")
    assert (await reading)["kind"] == "ConfigMapList"
    assert (await creating)["metadata"]["name"] == "patient"


# --- answers that a real server does not give on demand ---

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(*answers: Answer) -> AsyncIterator[tuple[Access, list[str]]]:
    """A server that gives these answers one after the other, the last one for ever, and what it was asked."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.method} {request.path_qs}")
        return await answers[min(len(asked), len(answers)) - 1](request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield Access(server=f"http://127.0.0.1:{port}", source="a test"), asked
    finally:
        await runner.cleanup()


def status(code: int, message: str = "no", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = {"kind": "Status", "code": code, "reason": "Some", "message": message}
        return web.json_response(body, status=code, headers=headers)

    return answer


def stream(*chunks: bytes, broken: bool = False) -> Answer:
    """These bytes; then the end, or the connection just breaks."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0.01)
        if broken:
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


def event(type_: str, version: int, **more: Any) -> bytes:
    return (
        json.dumps({"type": type_, "object": {"metadata": {"resourceVersion": str(version)}, **more}}).encode() + b"\n"
    )


FINE = stream(b"{}")


async def test_reads_are_tried_again_while_it_is_busy() -> None:
    async with answering(*(status(code) for code in (429, 500, 502, 503, 504)), FINE) as (access, asked):
        async with Client(access) as k:
            assert await k.get("/x") == {}
        assert len(asked) == 6
    async with answering(status(500, "etcdserver: leader changed")) as (access, asked):
        async with Client(access, patience=1) as k:
            with pytest.raises(ApiError, match=r"etcdserver: leader changed \(500 Some\)"):
                await k.get("/x")
        assert 2 <= len(asked) <= 6, "ever more seldom"


async def test_the_server_says_how_long_to_wait() -> None:
    async with answering(status(429, **{"Retry-After": "1"}), FINE) as (access, _), Client(access) as k:
        began = time.monotonic()
        assert await k.get("/x") == {}
        assert time.monotonic() - began >= 1
    async with answering(status(429, **{"Retry-After": "50"})) as (access, _), Client(access, patience=5) as k:
        began = time.monotonic()
        with pytest.raises(ApiError) as error:
            await k.get("/x")
        assert error.value.retry_after == 50
        assert time.monotonic() - began < 5, "there is no use in waiting for less"


async def test_changes_are_tried_again_only_if_they_were_not_made() -> None:
    for answer, times in (
        (status(429, **{"Retry-After": "1"}), 2),
        (status(503, **{"Retry-After": "1"}), 2),
        (status(503), 1),
        (status(500, **{"Retry-After": "1"}), 1),
        (stream(b"{", broken=True), 1),
    ):
        async with answering(answer, FINE) as (access, asked), Client(access) as k:
            for attempt in (k.create("/x", {}), k.patch("/x", {}), k.delete("/x")):
                asked.clear()
                with suppress(ApiError):
                    await attempt
                assert len(asked) == times, asked


async def test_what_is_no_json() -> None:
    async with answering(stream(b"<html>sign in")) as (access, _), Client(access, patience=1) as k:
        with pytest.raises(ApiError, match="not JSON but '<html>sign in'"):
            await k.proxy_get("n", "s", 80, "x")

    async def moved(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "https://elsewhere.example"}, text="over there")

    async with answering(moved) as (access, asked), Client(access) as k:
        with pytest.raises(ApiError, match=r"/x: over there \(302 Found\)"):
            await k.get("/x")
        assert len(asked) == 1, "the token goes to nobody else"


async def test_a_watch_through_a_storm() -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    shaken = {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd"}
    answers = [
        status(429, **{"Retry-After": "1"}),
        status(500),
        stream(b"<html>a proxy's page\n"),
        stream(event("ADDED", 11), event("BOOKMARK", 15), event("ADDED", 16)[:20], broken=True),
        stream(event("ERROR", 0, **shaken)),
        stream(event("MODIFIED", 17)[:9], event("MODIFIED", 17)[9:] + event("DELETED", 18)),
        stream(event("ERROR", 0, **gone)),
    ]
    seen = []

    async def watch(k: Client) -> None:
        async for kind, found in k.watch("/x", resource_version="10", labels={"b": "2", "a": "1"}, timeout=60):
            seen.append((kind, found["metadata"]["resourceVersion"]))

    async with answering(*answers) as (access, asked), Client(access) as k:
        with pytest.raises(Expired):
            await watch(k)
    assert seen == [("ADDED", "11"), ("MODIFIED", "17"), ("DELETED", "18")]
    versions = [re.findall(r"resourceVersion=(\d+)", each)[0] for each in asked]
    assert versions == ["10", "10", "10", "10", "15", "15", "18"]
    assert "labelSelector=a%3D1%2Cb%3D2" in asked[0]
    assert "allowWatchBookmarks=true" in asked[0]
    assert 54 <= int(re.findall(r"timeoutSeconds=(\d+)", asked[0])[0]) <= 66


@pytest.mark.parametrize(
    "answer", [status(410), status(504, "Too large resource version: 9, current: 2"), status(403), status(404)]
)
async def test_a_watch_ends_with_what_does_not_pass(answer: Answer) -> None:
    async with answering(answer) as (access, asked), Client(access) as k:
        with pytest.raises(ApiError) as error:
            await k.watch("/x", resource_version="10").__anext__()
        assert isinstance(error.value, Expired) == (error.value.status in (410, 504))
        assert len(asked) == 1


STAMP = b"2026-02-03T04:05:06.123456789Z "
NANO = 1770091506123456789


async def test_lines_of_a_log() -> None:
    chunks = [
        STAMP + b"one\r not two\x0cnor three\n" + STAMP[:10],
        STAMP[10:] + "zwölf".encode()[:3],
        "zwölf".encode()[3:] + b"\n2026-02-03T05:05:06.5+01:00 zone\n2026-02-03T04:05:06Z \n",
        STAMP + b"x" * 300_000,
        b"y" * 300_000 + b"\nunable to retrieve container logs\n" + STAMP + b"no end",
    ]
    async with answering(stream(*chunks)) as (access, asked), Client(access) as k:
        since = rfc3339(NANO)
        lines = [line async for line in k.log("n", "p", container="c", since_time=since, follow=True, tail_lines=5)]
    assert lines[:4] == [
        (NANO, "one\r not two\x0cnor three"),
        (NANO, "zwölf"),
        (NANO - 123456789 + 500_000_000, "zone"),
        (NANO - 123456789, ""),
    ]
    assert lines[4][0] == NANO
    assert 250_000 < len(lines[4][1]) <= streams.LONGEST_LINE, "cut"
    assert lines[5:] == [(0, "unable to retrieve container logs"), (NANO, "no end")]
    expected = "follow=true&container=c&sinceTime=2026-02-03T04%3A05%3A06Z&tailLines=5"
    assert asked == [f"GET /api/v1/namespaces/n/pods/p/log?timestamps=true&{expected}"]


async def test_a_log_that_breaks_off_or_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(stream(STAMP + b"one\n", STAMP + b"half", broken=True)) as (access, _), Client(access) as k:
        assert [line async for line in k.log("n", "p", follow=True)] == [(NANO, "one")], "half a line is none"

    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(STAMP + b"one\n")
        await asyncio.sleep(60)
        return response

    monkeypatch.setattr(module, "QUIET", 0.5)
    async with answering(silent) as (access, _), Client(access) as k:
        assert [line async for line in k.log("n", "p", follow=True)] == [(NANO, "one")]


async def test_a_log_that_is_not_there_yet(k: Client, api_namespace: str) -> None:
    with pytest.raises(ApiError, match=r'pods "nobody" not found \(404 NotFound\)'):
        await k.log(api_namespace, "nobody").__anext__()
    message = 'container "main" in pod "p" is waiting to start: ContainerCreating'
    async with answering(status(400, message)) as (access, asked), Client(access) as client:
        with pytest.raises(NotStarted, match=message):
            await client.log("n", "p", follow=True).__anext__()
        assert len(asked) == 1


async def test_the_log_of_a_pod(kubernetes: KubernetesServer, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys, time\n"
        "for n in range(5): print('line', n, flush=True); time.sleep(0.3)\n"
        "print('x' * 50_000); print('no end', end='')"
    )
    async with Client(access_to(kubernetes.kubeconfig, monkeypatch)) as k:
        absent = job("absent", namespace, ["true"])["spec"]["template"]["spec"]
        absent["containers"][0]["image"] = "localhost/no-such-image:1"
        for name, spec in (
            ("absent", absent),
            ("writer", job("w", namespace, ["python", "-c", program])["spec"]["template"]["spec"]),
        ):
            await k.create(
                pods(namespace), {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
            )
        feed = Feed.of(k.access.key, lambda: Client(k.access), pods(namespace))
        async with feed.subscribe("writer") as updates:
            async for pod in updates:
                if pod and pod["status"]["phase"] in ("Running", "Succeeded"):
                    break
        lines = [line async for line in k.log(namespace, "writer", follow=True)]
        assert [text for _, text in lines[:5]] == [f"line {n}" for n in range(5)]
        assert lines == sorted(lines, key=lambda line: line[0])
        assert len(lines[5][1].replace("x", "")) < 300, "nothing but what the kubelet puts between pieces"
        assert lines[6][1] == "no end"
        again = [line async for line in k.log(namespace, "writer", since_time=rfc3339(lines[3][0]))]
        assert [line for line in again if line[0] > lines[3][0]] == lines[4:]
        assert [text for _, text in [line async for line in k.log(namespace, "writer", tail_lines=1)]] == ["no end"]
        with pytest.raises(NotStarted, match='container "main" in pod "absent" is waiting to start'):
            await k.log(namespace, "absent").__anext__()


# --- one watch for many ---


async def watches(k: Client) -> int:
    """How many watches of the Jobs of one namespace the API server serves."""
    async with k._send("GET", "/metrics") as response:
        text = await response.text()
    found = re.findall(r'apiserver_longrunning_requests\{[^}]*resource="jobs",scope="namespace"[^}]*\} (\d+)', text)
    return sum(int(count) for count in found)


async def test_two_hundred_wait_with_one_watch(k: Client, api_namespace: str) -> None:
    assert await watches(k) == 0
    factories = 0

    def factory() -> Client:
        nonlocal factories
        factories += 1
        return Client(k.access)

    seen: dict[str, list[Any]] = {f"job-{number}": [] for number in range(200)}

    async def wait(name: str) -> None:
        feed = Feed.of(k.access.key, factory, jobs(api_namespace))
        async with feed.subscribe(name) as updates:
            async for found in updates:
                seen[name].append(found and found["metadata"].get("annotations", {}).get("state"))
                if found is None and len(seen[name]) > 1:
                    return

    waiting = [asyncio.create_task(wait(name)) for name in seen]
    await until(lambda: all(seen.values()))
    assert all(states == [None] for states in seen.values()), "nothing is there yet"
    for name in ("job-7", "job-8"):
        made = job(name, api_namespace, ["true"])
        made["spec"]["suspend"] = True
        made["metadata"]["annotations"] = {"state": "made"}
        await k.create(jobs(api_namespace), made)
        await until(lambda n=name: seen[n][-1] == "made")
        await k.patch(jobs(api_namespace, name), {"metadata": {"annotations": {"state": "changed"}}})
        await until(lambda n=name: seen[n][-1] == "changed")
        await k.delete(jobs(api_namespace, name), propagation="Background")
        await until(lambda n=name: seen[n][-1] is None)
    await until(lambda: waiting[7].done() and waiting[8].done())
    assert (await watches(k), factories) == (1, 1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    end = time.monotonic() + 30
    while await watches(k):
        assert time.monotonic() < end, "the last one shuts the door"
        await asyncio.sleep(0.2)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("feed of")]


async def test_who_comes_late_sees_what_there_is(k: Client, api_namespace: str) -> None:
    def feed() -> Feed:
        return Feed.of(k.access.key, lambda: Client(k.access), configmaps(api_namespace), {"of": "test"})

    async with feed().subscribe("other") as others:
        assert await others.__anext__() is None
        for number in range(20):
            name = f"one-{number}"
            await k.create(configmaps(api_namespace), config(name))
            async with feed().subscribe(name) as updates:
                assert await updates.__anext__() is not None, "just made, and perhaps the watch does not know it yet"
                uid = (await k.delete(configmaps(api_namespace, name), propagation="Background"))["details"]["uid"]
                new = await k.create(configmaps(api_namespace), config(name))
                async with feed().subscribe(name) as again:
                    found = await again.__anext__()
                    assert found is not None
                    assert found["metadata"]["uid"] == new["metadata"]["uid"] != uid, "not the one before"


async def test_the_newest_of_those_with_a_label_counts(k: Client, api_namespace: str) -> None:
    def made(name: str) -> Any:
        found = config(name)
        found["metadata"]["labels"] = {**found["metadata"].get("labels", {}), "work": "a"}
        return found

    seen: list[str | None] = []

    async def wait() -> None:
        feed = Feed.of(k.access.key, lambda: Client(k.access), configmaps(api_namespace), by="work")
        async with feed.subscribe("a") as updates:
            async for found in updates:
                seen.append(found and f"{found['metadata']['name']} {found.get('data', {}).get('a')}")

    await k.create(configmaps(api_namespace), made("first"))
    waiting = asyncio.create_task(wait())
    await until(lambda: seen == ["first None"])
    await asyncio.sleep(1.1)  # Kubernetes knows whole seconds
    await k.create(configmaps(api_namespace), config("of-somebody-else"))
    await k.create(configmaps(api_namespace), made("second"))
    await until(lambda: seen[1:] == ["second None"])
    await k.patch(configmaps(api_namespace, "first"), {"data": {"a": "late"}})
    await k.delete(configmaps(api_namespace, "first"), propagation="Background")
    await k.patch(configmaps(api_namespace, "second"), {"data": {"a": "2"}})
    await until(lambda: seen[-1] == "second 2")
    await k.delete(configmaps(api_namespace, "second"), propagation="Background")
    await until(lambda: seen[-1] is None)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert seen == ["first None", "second None", "second 2", None]


async def test_a_feed_outlives_a_restart_of_the_server(
    kubernetes_api: KubernetesServer, k: Client, api_namespace: str
) -> None:
    await k.create(configmaps(api_namespace), config("kept", a="1"))
    await k.create(configmaps(api_namespace), config("gone"))
    feed = Feed.of(k.access.key, lambda: Client(k.access), configmaps(api_namespace))
    seen: dict[str, list[Any]] = {"kept": [], "gone": [], "new": []}

    async def wait(name: str) -> None:
        async with feed.subscribe(name) as updates:
            async for found in updates:
                seen[name].append(found and found.get("data", {}).get("a"))

    waiting = [asyncio.create_task(wait(name)) for name in seen]
    await until(lambda: all(seen.values()))
    # Changes that nobody is told of: this very feed hears of nothing while the loop stands still.
    kubernetes_api.kubectl("delete", "configmap", "gone", "-n", api_namespace)
    kubernetes_api.control("kill", "apiserver")
    kubernetes_api.control("start", "apiserver")
    kubernetes_api.wait_ready()
    kubernetes_api.kubectl("patch", "configmap", "kept", "-n", api_namespace, "-p", '{"data":{"a":"2"}}')
    await until(lambda: seen["kept"][-1] == "2" and seen["gone"][-1] is None and len(seen["gone"]) == 2)
    await k.create(configmaps(api_namespace), config("new", a="3"))
    await until(lambda: seen["new"][-1] == "3")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert seen == {"kept": ["1", "2"], "gone": [None, None], "new": [None, "3"]}


async def test_whoever_waits_hears_what_is_wrong(
    kubernetes_api: KubernetesServer, api_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = access_to(kubernetes_api.service_account(api_namespace, "nothing"), monkeypatch)
    feed = Feed.of(access.key, lambda: Client(access), jobs(api_namespace))
    async with AsyncExitStack() as stack:
        for name in ("a", "b"):
            updates = await stack.enter_async_context(feed.subscribe(name))
            with pytest.raises(ApiError, match="cannot list resource"):
                await updates.__anext__()


async def test_a_slow_subscriber_gets_the_newest_only(k: Client, api_namespace: str) -> None:
    await k.create(configmaps(api_namespace), config("one", a="0"))
    feed = Feed.of(k.access.key, lambda: Client(k.access), configmaps(api_namespace))
    async with feed.subscribe("one") as updates, feed.subscribe("one") as quick:
        await updates.__anext__()
        for number in range(1, 6):
            await k.patch(configmaps(api_namespace, "one"), {"data": {"a": str(number)}})
        async for found in quick:
            if found and found["data"]["a"] == "5":
                break
        found = await updates.__anext__()
        assert found is not None
        assert found["data"]["a"] == "5"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(updates.__anext__(), 0.5)
