"""What is created on Kubernetes: built from spec and owner without asking anybody."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from dask_provider.clusters import KubernetesCluster
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes import bundles, job_manifests, manifests
from dask_provider.jobs import ARCHIVE, MOST_BYTES, Bundle, Job, make_bundle
from dask_provider.owner import PLANNED, Attempt, Owner
from dask_provider.runtime.dask_side import NotReady
from dask_provider.runtime.fetch import fetch

from tests.unit.hooks.kubernetes.made import ADDRESS, NAME, OWNER, cluster_of, env_of, parts

ATTEMPT = Attempt(2, fresh=False, last=False, started=1000.25)
RICH = KubernetesCluster(
    image="localhost/dask:1",
    image_pull_secrets=["registry"],
    service_account="etl",
    run_as_user=1000,
    node_selector={"pool": "etl"},
    tolerations=[{"key": "etl", "operator": "Exists"}],
    spot={"cloud.google.com/gke-spot": "true"},
    labels={"team": "a"},
    annotations={"acme.com/ticket": "No. 7"},
    env={"A": "1"},
    env_from=[{"secretRef": {"name": "db"}}],
    volumes=[{"name": "data", "nfs": {"server": "nas", "path": "/"}}],
    volume_mounts=[{"name": "data", "mountPath": "/data"}],
    packages={"conda": ["optuna", "scikit-learn"]},
    service_type="NodePort",
    node_port=30001,
    worker_args=["--resources", "GPU=1"],
    worker_groups=[{"name": "gpu", "workers": 1, "resources": {"nvidia.com/gpu": 1}, "env": {"B": "2"}}],
    tls=True,
)


def test_a_plain_cluster() -> None:
    made = cluster_of(KubernetesCluster(workers=(2, 5), threads=2, env={"A": "1"}))
    scheduler, scheduling, worker, working = parts(made)
    assert (made["kind"], made["metadata"]["name"], made["spec"]["worker"]["replicas"]) == ("DaskCluster", NAME, 2)
    assert scheduling["args"] == ["dask", "scheduler"], "dask-scheduler is gone since distributed 2026.6"
    assert working["args"][:8] == [
        *("dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "2"),
        *("--memory-limit", str(4 * 2**30 - 100 * 2**20)),
    ]
    assert "distributed.http.scheduler.api" in env_of(scheduling)["DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"]
    assert env_of(working) == {"A": "1", "DASK_SCHEDULER_ADDRESS": f"tcp://{ADDRESS}"}
    service = made["spec"]["scheduler"]["service"]
    assert service["selector"] == {"dask.org/cluster-name": NAME, "dask.org/component": "scheduler"}
    named = {port["name"]: port["targetPort"] for port in service["ports"]}
    assert (
        named
        == {port["name"]: port["name"] for port in scheduling["ports"]}
        == {name: name for name in ("tcp-comm", "http-dashboard")}
    )
    assert "livenessProbe" not in scheduling
    assert "idleTimeout" not in made["spec"], "the operator's own is unsafe"
    for pod in (scheduler, worker):
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert "nodeSelector" not in pod


def test_every_wish_reaches_the_pods_it_is_meant_for() -> None:
    made = cluster_of(RICH)
    scheduler, _, worker, working = parts(made)
    job = job_of(made, "x-1", resources=RICH.job_quantities)["spec"]["template"]["spec"]
    lease = manifests.lease(RICH, OWNER, PLANNED, made, script="pass")["spec"]["template"]["spec"]
    (group,) = manifests.worker_groups(RICH, OWNER, namespace="team-a")
    grouped = group["spec"]["worker"]["spec"]
    for pod in (scheduler, worker, job, lease, grouped):
        assert (pod["serviceAccountName"], pod["imagePullSecrets"]) == ("etl", [{"name": "registry"}])
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["containers"][0]["image"] == "localhost/dask:1"
        assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"key": "etl", "operator": "Exists"} in pod["tolerations"]
        assert pod["nodeSelector"]["pool"] == "etl"
    for pod in (scheduler, worker, job, grouped):
        container = pod["containers"][0]
        assert env_of(container)["EXTRA_CONDA_PACKAGES"] == "optuna scikit-learn"
        assert [item["secretRef"]["name"] for item in container["envFrom"]] == ["db", f"{NAME}-tls"]
        assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
        assert RICH.volumes[0] in pod["volumes"]
    for pod in (worker, grouped):
        assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
        assert {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true"} in pod["tolerations"]
        assert "affinity" not in pod
        assert env_of(pod["containers"][0])["DASK_SCHEDULER_ADDRESS"] == f"tls://{ADDRESS}"
        assert pod["containers"][0]["args"][-2:] == ["--resources", "GPU=1"]
    for pod in (scheduler, job, lease):
        (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert term["matchExpressions"] == [
            {"key": "cloud.google.com/gke-spot", "operator": "NotIn", "values": ["true"]}
        ]
        assert "cloud.google.com/gke-spot" not in pod["nodeSelector"]
    assert (env_of(grouped["containers"][0])["B"], "B" in env_of(working)) == ("2", False)
    assert (group["metadata"]["name"], group["spec"]["cluster"]) == (f"{NAME}-gpu", NAME)
    assert [port.get("nodePort") for port in made["spec"]["scheduler"]["service"]["ports"]] == [30001, None]
    for annotated in (made["metadata"], group["metadata"]):
        assert annotated["labels"]["team"] == "a"
        assert annotated["annotations"]["acme.com/ticket"] == "No. 7"


def test_spot_is_said_in_each_term_of_an_affinity_of_the_user() -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    zones = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in "ab"]
    affinity = {"podAntiAffinity": {}, "nodeAffinity": {required: {"nodeSelectorTerms": zones}}}
    scheduler, _, worker, _ = parts(cluster_of(KubernetesCluster(affinity=affinity, spot={"spot": "yes"})))
    terms = scheduler["affinity"]["nodeAffinity"][required]["nodeSelectorTerms"]
    assert [[each["key"] for each in term["matchExpressions"]] for term in terms] == [["zone", "spot"]] * 2
    assert worker["affinity"] == affinity


def test_labels_and_owner() -> None:
    odd = Owner("Acme: night & day " * 5, "d", "r", "t", 3)
    made = cluster_of(KubernetesCluster())
    for owner, name in ((OWNER, "prod"), (odd, None)):
        labels = manifests.labels(owner, "job", cluster="other")
        for value in labels.values():
            assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value)
        assert name in (None, labels["dask-provider/instance"])
        assert labels["dask-provider/cluster"] == "other"
        selector = manifests.select(instance=owner.instance, role="job").split(",")
        assert set(selector) <= {f"{key}={value}" for key, value in labels.items()}
    assert manifests.owner_of(made) == OWNER
    assert manifests.owner_of({"metadata": {"annotations": manifests.owner_note(odd)}}) == odd
    lease = {"metadata": {"name": NAME, "uid": "u-1"}}
    (reference,) = manifests.owned(made, lease)["metadata"]["ownerReferences"]
    assert (reference["apiVersion"], reference["kind"], reference["uid"]) == ("batch/v1", "Job", "u-1")
    assert "ownerReferences" not in made["metadata"]


def test_the_lease() -> None:
    spec = KubernetesCluster(workers=(1, 3), max_lifetime="2h", idle_timeout=90, ready_timeout="2 min")
    made = manifests.lease(spec, OWNER, ATTEMPT, cluster_of(spec), script="print('lease')")
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == (NAME, "team-a")
    assert (made["spec"]["activeDeadlineSeconds"], made["spec"]["ttlSecondsAfterFinished"]) == (7200, 0)
    assert made["spec"]["backoffLimit"] > 10**5, "a lost pod is replaced for as long as the lease lasts"
    notes = made["metadata"]["annotations"]
    written = [notes[f"dask-provider/{name}"] for name in ("spec-hash", "attempt", "started")]
    assert written == [spec.hash(), "2", "1000.25"]
    handle = json.loads(notes["dask-provider/handle"])
    assert (handle["workers"], handle["min_workers"], handle["ready_timeout"], handle["tls"]) == ([1, 3], 1, 120, False)
    template = made["spec"]["template"]
    (container,) = template["spec"]["containers"]
    url = f"http://{NAME}-scheduler.team-a.svc:8787/"
    assert container["command"][:4] == ["python3", "-I", "-u", "-c"]
    assert container["command"][4:] == ["print('lease')", url, "90", "120", "/etc/podinfo/annotations"]
    assert "env" not in container
    assert "envFrom" not in container
    assert template["spec"]["automountServiceAccountToken"] is False
    assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false", "a Job with a proxy never ends"


def test_certificates_serve_all_three_roles() -> None:
    made = manifests.tls_secret(OWNER, {"ca": "CA", "cert": "CERT", "key": "KEY"}, namespace="team-a")
    values = made["stringData"]
    assert values["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
    assert sum(value == "CERT" for value in values.values()) == sum(value == "KEY" for value in values.values()) == 3
    assert manifests.autoscaler(OWNER, namespace="team-a", low=0, high=4)["spec"] == {
        "cluster": NAME,
        "minimum": 0,
        "maximum": 4,
    }


# --- jobs ---

BUNDLE = make_bundle(
    Job(script=("flights.py", b"print(1)"), py_files={"lib.py": b"x = 1"}, files={"a b": b"\0"}), OWNER, "s3://stage/"
)


def job_of(cluster: Any, job_id: str = "x", bundle: Bundle = BUNDLE, **given: Any) -> Any:
    fields = {"resources": {}, "deadline_seconds": 60, "now": 0, **given}
    return job_manifests.job(cluster, bundle, job_id, fields.pop("attempt", ATTEMPT), **fields)


def test_the_job_finds_every_file_where_the_runtime_looks() -> None:
    cluster = cluster_of(KubernetesCluster(image="dask:1", tls=True))
    cluster["metadata"]["annotations"]["kopf.zalando.org/last-handled-configuration"] = "{}"  # as read from the API
    made = job_of(cluster, f"{NAME}-2", resources=KubernetesCluster().job_quantities)
    spec, template = made["spec"], made["spec"]["template"]
    assert (spec["suspend"], spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (True, 0, 86400)
    (container,) = template["spec"]["containers"]
    assert container["args"][:4] == [
        *("python3", "/dask-bundle/dask_job_runtime.pyz", "job", "/dask-bundle/job.json")
    ], "args: the entry point of the image may install packages"
    files = bundles.config_map(made, BUNDLE, b"{}")
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert volumes["dask-bundle"]["configMap"]["name"] == files["metadata"]["name"] == f"{NAME}-2"
    placed = {item["path"]: files["binaryData"][item["key"]] for item in volumes["dask-bundle"]["configMap"]["items"]}
    assert {path: base64.b64decode(text) for path, text in placed.items()} == {**BUNDLE.files, "job.json": b"{}"}
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) for key in files["binaryData"])
    notes = made["metadata"]["annotations"]
    assert notes["dask-provider/results"] == BUNDLE.results(f"{NAME}-2")
    written = [notes[f"dask-provider/{name}"] for name in ("spec-hash", "attempt", "started")]
    assert written == [BUNDLE.spec_hash, "2", "1000.25"]
    assert not any("kopf" in name for name in notes)
    assert (files["metadata"]["labels"]["dask-provider/role"], spec["template"]["spec"]["restartPolicy"]) == (
        "bundle",
        "Never",
    )


@pytest.mark.parametrize(
    ("deadline", "at_first", "adopted"),
    [(None, 900, 900), (1100, 150, 180), (1010, 60, 90), (5000, 900, 900), (500, 1, 1)],
)
def test_a_job_ends_with_its_cluster_or_a_minute_after_its_task_gives_up(
    deadline: float | None, at_first: int, adopted: int
) -> None:
    attempt = dataclasses.replace(ATTEMPT, deadline=deadline)
    made = job_of(cluster_of(KubernetesCluster()), attempt=attempt, deadline_seconds=900, now=1010)
    assert made["spec"]["activeDeadlineSeconds"] == at_first
    # Adopted: Kubernetes counts from where it began to run, 30 s before.
    made["status"] = {"startTime": "1970-01-01T00:16:20Z"}
    assert job_manifests.seconds_of_adopted(made, attempt, 1010) == adopted


def test_a_job_takes_the_command_of_a_scheduler_that_has_one() -> None:
    cluster = cluster_of(KubernetesCluster())
    scheduler = parts(cluster)[1]
    scheduler["command"] = scheduler.pop("args")
    cluster["spec"]["scheduler"]["spec"]["containers"].insert(0, {"name": "sidecar", "image": "x"})
    made = job_of(cluster)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert (container["command"][0], "args" in container) == ("python3", False)


def test_what_a_config_map_does_not_hold_goes_by_the_staging_area(tmp_path: Path) -> None:
    sizes = {ARCHIVE: 100_000, "small.py": 10, "work/table.csv": 800_000, "work/more.csv": 800_001}
    contents = {path: bytes([number]) * size for number, (path, size) in enumerate(sizes.items())}
    large = Bundle(OWNER, "0", contents, {"env": {}}, f"file://{tmp_path}/")
    made = job_of(cluster_of(KubernetesCluster()), bundle=large)
    inside = ["small.py", "work/table.csv", ARCHIVE]
    assert sorted(bundles.mounted(made)) == sorted(inside) == sorted(bundles.in_config_map(large))
    assert len(bundles.config_map(made, large, b"x" * 50_000)["binaryData"]) == 4
    (path, uri), *more = bundles.in_staging(large, inside).items()
    assert (path, more) == ("work/more.csv", [])
    assert re.fullmatch(rf"file://{tmp_path}/bundles/prod/[-0-9]{{10}}/[0-9a-f]{{64}}", uri)
    bundles.stage(large, {path: uri})
    file = Path(uri.removeprefix("file://"))
    first = file.stat()
    bundles.stage(large, {path: uri})
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert list(file.parent.iterdir()) == [file]
    fetch({path: uri}, tmp_path / "run")
    assert (tmp_path / "run" / path).read_bytes() == contents[path]
    file.write_bytes(b"half")
    with pytest.raises(NotReady, match=r"[0-9a-f]{64} was changed or damaged"):
        fetch({path: uri}, tmp_path / "run")
    with pytest.raises(NotReady, match=r"nowhere cannot be read here \(FileNotFoundError"):
        fetch({"x": f"{tmp_path}/nowhere"}, tmp_path)


def test_a_job_gets_the_files_that_it_was_made_for() -> None:
    """Also where another release of this package, or another pickle of the same call, would divide them otherwise."""
    bundle = Bundle(OWNER, "0", {ARCHIVE: b"", "a": b"1", "b": b"22"}, {}, "s3://stage/")
    made = job_of(cluster_of(KubernetesCluster()), bundle=bundle)
    (volume,) = [each for each in made["spec"]["template"]["spec"]["volumes"] if each["name"] == bundles.VOLUME]
    volume["configMap"]["items"] = [item for item in volume["configMap"]["items"] if item["path"] != "a"]
    keys = {bundles.key(path) for path in (ARCHIVE, "b", "job.json")}
    assert set(bundles.config_map(made, bundle, b"{}")["binaryData"]) == keys
    assert list(bundles.in_staging(bundle, bundles.mounted(made))) == ["a"]


def test_more_than_a_job_can_have() -> None:
    large = Bundle(OWNER, "0", {ARCHIVE: b"", "work/table.csv": b"x" * (MOST_BYTES + 1)}, {}, "s3://stage/")
    with pytest.raises(
        InvalidInput, match=r"64\.0 MiB.*work/table\.csv.*put larger files at a URI.* or into the image"
    ):
        bundles.in_staging(large, [ARCHIVE])
    with pytest.raises(
        InvalidInput, match=r"arguments, env, names of files: '976\.6 KiB' is not possible; allowed: what"
    ):
        bundles.config_map(job_of(cluster_of(KubernetesCluster())), BUNDLE, b"x" * 1_000_000)
