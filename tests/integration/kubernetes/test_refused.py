"""What cannot be, told before anything is created or as soon as it is known, and then gone again."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks import hook_of
from dask_provider.hooks.kubernetes.rights import NEEDED, role_rules

from tests.integration.kubernetes.manifests import dask_cluster
from tests.integration.kubernetes.place import KINDS, Namespace
from tests.integration.place import FIRST
from tests.servers.kubernetes import DASK_IMAGE, KubernetesServer

CRASHING = [{"name": "scheduler", "image": DASK_IMAGE, "args": ["sh", "-c", "echo oh no; exit 3"]}]
#: what the API server serves of the Dask operator's
CRDS = "/apis/kubernetes.dask.org/v1"
FAILS: dict[str, tuple[dict[str, Any], str]] = {
    "image": ({"image": "no.such.host.invalid/dask:1"}, "the image no.such.host.invalid/dask:1 cannot be pulled"),
    "account": ({"service_account": "nobody-there"}, "service account.*nobody-there"),
    "secret": ({"env_from": [{"secretRef": {"name": "no-such-secret"}}]}, "no-such-secret"),
    "crash": (
        {"manifest_overrides": {"spec": {"scheduler": {"spec": {"containers": CRASHING}}}}},
        "scheduler.*exit code 3.*oh no",
    ),
    "volume": (
        {
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "no-such-claim"}}],
            "volume_mounts": [{"name": "data", "mountPath": "/data"}],
        },
        "no-such-claim",
    ),
}


async def test_causes_are_named_before_the_time_out(place: Namespace) -> None:
    hook = hook_of("kubernetes")

    async def cause(name: str) -> str:
        handle = await hook.create(place.spec(**FAILS[name][0]), place.owner(name), FIRST)
        try:
            async for readiness in hook.wait_ready(handle):
                assert not readiness.ready
        except ClusterFailed as error:
            return str(error)
        finally:
            await place.delete(handle)
        return "it became ready"

    texts = await asyncio.gather(*map(cause, FAILS))
    for text, (_, words) in zip(texts, FAILS.values(), strict=True):
        assert "is not ready after" not in text, "only at the time-out"
        assert re.search(words, text), text


async def test_more_than_any_node_has_is_named_while_it_waits(place: Namespace) -> None:
    hook = hook_of("kubernetes")
    spec = place.spec(worker_resources={"cpu": "500", "memory": "200Mi"}, ready_timeout=15)
    handle = await hook.create(spec, place.owner("cluster"), FIRST)
    cause, told = "worker: no node takes it: .*Insufficient cpu", []

    async def wait() -> None:
        async for readiness in hook.wait_ready(handle):
            told.append(readiness.text)

    with pytest.raises(ClusterFailed, match=rf"not ready after 15 s.*{cause}"):
        await wait()
    assert any(re.search(cause, text) for text in told), told
    await place.delete(handle)


def quota_of(place: Namespace, **hard: str) -> dict[str, Any]:
    named = {name.replace("_", "."): amount for name, amount in hard.items()}
    metadata = {"name": "small", "namespace": place.name}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": named}}


async def test_a_quota_that_can_never_be_met(place: Namespace) -> None:
    place.server.apply(quota_of(place, requests_memory="500Mi", pods="10"))
    hook, spec = hook_of("kubernetes"), place.spec(worker_resources={"cpu": "50m", "memory": "300Mi"})
    asked = r"requests\.memory of 732Mi \(lease 32Mi \+ scheduler 200Mi \+ job 200Mi \+ worker 300Mi\)"
    with pytest.raises(
        InvalidInput, match=rf"KubernetesCluster\.workers, .*{asked}.* at most 500Mi of the quota small"
    ):
        await hook.create(spec, place.owner("cluster"), FIRST)
    await place.assert_nothing_left(0)


async def test_a_quota_without_the_right_to_see_it(place: Namespace) -> None:
    place.server.apply(quota_of(place, requests_memory="250Mi"))
    kubeconfig = place.server.service_account(place.name, "blind", role_rules(NEEDED))
    blind = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}})
    hook = hook_of("kubernetes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_BLIND", blind)
        spec = place.spec(conn_id="blind", worker_resources={"cpu": "50m", "memory": "300Mi"})
        began = time.monotonic()
        handle = await hook.create(spec, place.owner("cluster"), FIRST)
        assert time.monotonic() - began < 5, "it does not wait for a right that nobody needs"
        with pytest.raises(ClusterFailed, match=r"quota small: requested requests\.memory=300Mi"):
            await place.wait_ready(hook, handle)
        await place.delete(handle)


@pytest.mark.whole
async def test_a_quota_that_others_have_taken(place: Namespace, caplog: pytest.LogCaptureFixture) -> None:
    place.server.apply(quota_of(place, requests_memory="1000Mi"))
    hook, big = hook_of("kubernetes"), {"cpu": "50m", "memory": "300Mi"}
    first = await place.ready(place.spec(), "first")
    handle = await hook.create(place.spec(worker_resources=big), place.owner("cluster"), FIRST)
    assert re.search(
        r"waits until others end: requests\.memory: it needs 732Mi .*568Mi left of the 1000Mi", caplog.text
    )
    await place.delete(first)
    await place.wait_ready(hook, handle)
    await place.delete(handle)


async def test_a_namespace_that_does_not_exist(place: Namespace) -> None:
    admin = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(place.server.kubeconfig)}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_ADMIN", admin)
        with pytest.raises(InvalidInput, match=r"^KubernetesCluster\.namespace: 'nowhere'.* a namespace that exists"):
            await hook_of("kubernetes").create(place.spec(conn_id="admin", namespace="nowhere"), place.owner(), FIRST)


async def test_every_missing_right_is_named(place: Namespace) -> None:
    rules = [rule for rule in role_rules() if rule["resources"] != ["configmaps"]]
    rules = [
        {**rule, "verbs": [v for v in rule["verbs"] if (rule["resources"], v) != (["jobs"], "delete")]}
        for rule in rules
    ]
    kubeconfig = place.server.service_account(place.name, "weak", rules)
    weak = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_WEAK", weak)
        with pytest.raises(
            ClusterFailed, match=rf"lacks rights in namespace {place.name}: delete jobs\.batch, create configmaps;"
        ):
            await hook_of("kubernetes").create(place.spec(conn_id="weak"), place.owner(), FIRST)
    await place.assert_nothing_left(0)


async def test_what_somebody_else_made_under_the_name_is_never_touched(place: Namespace) -> None:
    hook, owner = hook_of("kubernetes"), place.owner("cluster")
    foreign = dask_cluster(owner.name, place.name, workers=0)
    group = {"cluster": "another", "worker": foreign["spec"]["worker"]}
    named = {"name": f"{owner.name}-big", "namespace": place.name}
    place.server.apply({**foreign, "kind": "DaskWorkerGroup", "metadata": named, "spec": group})
    with pytest.raises(ClusterFailed, match=f"there is a DaskWorkerGroup {owner.name}-big .* that is not ours"):
        await hook.create(place.spec(worker_groups=[{"name": "big", "workers": 1}]), owner, FIRST)
    place.server.apply(foreign)
    with pytest.raises(ClusterFailed, match=f"DaskCluster {owner.name} in namespace {place.name} that is not ours"):
        await hook.create(place.spec(), owner, FIRST)
    assert await hook.find(place.spec(), owner) is None
    kept = place.server.get("daskcluster", owner.name, "-n", place.name)
    assert "deletionTimestamp" not in kept["metadata"]
    place.server.kubectl("delete", "daskclusters,daskworkergroups", "--all", "-n", place.name)


async def test_operator_missing_and_crds_too_old(kubernetes_api: KubernetesServer, api_namespace: str) -> None:
    """On a server of its own: it changes what all namespaces share."""
    crds = json.loads(kubernetes_api.kubectl("get", "crd", "-o", "json"))["items"]
    place = Namespace(kubernetes_api, api_namespace, kubernetes_api.state)
    extra = {"kube_config_path": str(kubernetes_api.kubeconfig), "namespace": api_namespace}
    hook = hook_of("kubernetes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_KUBERNETES_TESTS", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        patch.setenv("AIRFLOW__DASK__STAGING", place.staging)
        try:
            # First what is looked at last.
            for kind, fields in (
                ("DaskWorkerGroup", {"worker_groups": [{"name": "more", "workers": 1}]}),
                ("DaskCluster", {}),
            ):
                _prune(kubernetes_api, api_namespace, next(crd for crd in crds if crd["spec"]["names"]["kind"] == kind))
                dropped = rf"drops spec\.worker\.spec\.enableServiceLinks of the {kind}.*too old"
                with pytest.raises(ClusterFailed, match=dropped):
                    await hook.create(place.spec(**fields), place.owner(), FIRST)
            kubernetes_api.kubectl("delete", "crd", *[crd["metadata"]["name"] for crd in crds])
            kubernetes_api.wait(60, "no CRD", lambda: not kubernetes_api.answers("get", "--raw", CRDS))
            unknown = r"does not know daskautoscalers, daskclusters, daskworkergroups; .*helm install"
            with pytest.raises(ClusterFailed, match=unknown):
                await hook.create(place.spec(), place.owner(), FIRST)
        finally:
            for crd in crds:
                crd["metadata"] = {"name": crd["metadata"]["name"]}
            kubernetes_api.kubectl(
                "apply",
                "--server-side",
                "--force-conflicts",
                "-f",
                "-",
                input=json.dumps({"apiVersion": "v1", "kind": "List", "items": crds}),
            )
    kubernetes_api.wait(60, "the CRDs", lambda: kubernetes_api.answers("get", KINDS, "-n", api_namespace))
    assert not place.objects()


def _prune(server: KubernetesServer, namespace: str, crd: dict[str, Any]) -> None:
    """Put an older CRD in its place, which does not know ``enableServiceLinks`` of workers."""
    old = json.loads(json.dumps({**crd, "metadata": {"name": crd["metadata"]["name"]}}))
    schema = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del schema["worker"]["properties"]["spec"]["properties"]["enableServiceLinks"]
    server.kubectl("replace", "-f", "-", input=json.dumps(old))
    wanted = dask_cluster("probe", namespace, workers=0)
    wanted["spec"]["worker"]["spec"]["enableServiceLinks"] = False
    if (kind := crd["spec"]["names"]["kind"]) == "DaskWorkerGroup":
        wanted |= {"kind": kind, "spec": {"cluster": "probe", "worker": wanted["spec"]["worker"]}}
    options = ("--dry-run=server", "--validate=false", "-o", "json", "-f", "-")

    def is_dropped() -> bool:
        made = json.loads(server.kubectl("create", *options, input=json.dumps(wanted)))
        return "enableServiceLinks" not in made["spec"]["worker"]["spec"]

    # The API server takes a moment to serve a changed CRD.
    server.wait(60, f"the old CRD of {kind}", is_dropped)
