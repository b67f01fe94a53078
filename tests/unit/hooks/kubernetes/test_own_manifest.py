"""What a user wrote of a DaskCluster by hand: the message of each mistake, and what is added to it."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from dask_provider.clusters import KubernetesCluster
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes import clusters, manifests
from dask_provider.hooks.kubernetes.own_manifest import merged, parse_manifest
from dask_provider.owner import PLANNED

from tests.unit.hooks.kubernetes.made import ADDRESS, NAME, OWNER, cluster_of, env_of, parts


def test_overrides_are_laid_over() -> None:
    overrides = {
        "metadata": {"labels": {"cost": "7"}},
        "spec": {
            "worker": {
                "spec": {
                    "priorityClassName": "low",
                    "terminationGracePeriodSeconds": None,
                    "containers": [
                        {"name": "worker", "env": [{"name": "B", "value": "2"}]},
                        {"name": "x", "image": "y"},
                    ],
                }
            }
        },
    }
    made = cluster_of(KubernetesCluster(env={"A": "1"}, manifest_overrides=overrides))
    _, _, worker, working = parts(made)
    assert env_of(working) == {"A": "1", "B": "2", "DASK_SCHEDULER_ADDRESS": f"tcp://{ADDRESS}"}
    assert (worker["priorityClassName"], "terminationGracePeriodSeconds" in worker) == ("low", False)
    assert [container["name"] for container in worker["containers"]] == ["worker", "x"]
    assert made["metadata"]["labels"]["cost"] == "7"
    assert manifests.owner_of(made) == OWNER
    assert merged({"a": [1, 2], "b": {"c": 1}}, {"a": (3,), "b": {"d": {"e": None}}}) == {
        "a": [3],
        "b": {"c": 1, "d": {}},
    }
    with pytest.raises(InvalidInput, match=r"manifest_overrides.*a list of containers"):
        cluster_of(KubernetesCluster(manifest_overrides={"spec": {"worker": {"spec": {"containers": None}}}}))


#: as printed in a tutorial, mistakes included
PRINTED = """\
# dask-cluster.yaml
apiVersion: kubernetes.dask.org/v1
kind: DaskCluster
metadata:
  name: <your_cluster_name>
  namespace: <your_namespace>
spec:
  worker:
    replicas: 2 # specifying number of workers
    spec:
      volumes:
        - name: <volume-name> # you can use volumes for storing .csv files
          hostPath:
            path: <your-path>
            type: DirectoryOrCreate
      containers:
        - name: worker
        image: "ghcr.io/dask/dask:latest"
        imagePullPolicy: "IfNotPresent"
        env:
          - name: EXTRA_CONDA_PACKAGES # adding extra packages
            value: "optuna optuna-integration scikit-learn"
        args:
          - dask-worker
          - --name
          - $(DASK_WORKER_NAME)
          - --dashboard
          - --dashboard-address
          - "8788"
        ports:
          - name: http-dashboard
            containerPort: 8788
            protocol: TCP
  scheduler:
    spec:
      containers:
      - name: scheduler
        image: "ghcr.io/dask/dask:latest"
        imagePullPolicy: "IfNotPresent"
        env:
          - name: EXTRA_CONDA_PACKAGES # adding extra packages
            value: "optuna optuna-integration scikit-learn"
        args:
          - dask-scheduler
        ports:
          - name: tcp-comm
            containerPort: 8786 # you can change port
            protocol: TCP
          - name: http-dashboard
            containerPort: 8787 # you can change port
            protocol: TCP
        readinessProbe:
          httpGet:
            port: http-dashboard
            path: /health
          initialDelaySeconds: 5
          periodSeconds: 10
        livenessProbe:
          httpGet:
            port: http-dashboard
            path: /health
          initialDelaySeconds: 15
          periodSeconds: 20
    service:
      type: NodePort
      selector:
        dask.org/cluster-name: <your_cluster_name>
        dask.org/component: scheduler
      ports:
      - name: dask-tcp-comm
        protocol: TCP
        port: 8786 # you can change port
        targetPort: "tcp-comm"
      - name: dask-http-dashboard
        protocol: TCP
        port: 8787 # you can change port
        targetPort: "http-dashboard"
"""
#: what is said of it, and what mends that
MISTAKES = [
    ("line 18, column 9: ", "        - name: worker\n", "      - name: worker\n"),
    ("no name, or at most 53", "  name: <your_cluster_name>", "  name: my-dask"),
    (
        "volumes that a container",
        "        imagePullPolicy",
        "        volumeMounts: [{name: <volume-name>, mountPath: /data}]\n        imagePullPolicy",
    ),
    ("a port named tcp-comm", "dask-tcp-comm", "tcp-comm"),
    ("a port named http-dashboard", "dask-http-dashboard", "http-dashboard"),
]
VALID = PRINTED.replace("  namespace: <your_namespace>\n", "").replace("<your-path>", "/srv")
for _, wrong, right in MISTAKES:
    VALID = VALID.replace(wrong, right, 1)


def test_a_manifest_as_printed_is_mended_by_what_is_said_of_it() -> None:
    text, page = PRINTED, (Path(__file__).parents[4] / "docs" / "from-kubectl.md").read_text()
    for said, wrong, right in MISTAKES:
        with pytest.raises(InvalidInput) as refused:
            parse_manifest(text)
        message = refused.value.allowed.removeprefix("valid YAML; ")
        assert message.startswith(said)
        assert f"`{message}`" in page or "http-dashboard" in message
        text = text.replace(wrong, right, 1)
    parse_manifest(text)


def test_an_own_manifest_gets_owner_address_and_certificates() -> None:
    manifest = parse_manifest(VALID)
    before = copy.deepcopy(manifest)
    spec = KubernetesCluster(manifest="s3://acme/dask.yaml", tls=True, env={"A": "1"}, labels={"team": "a"})
    made = cluster_of(spec, manifest)
    _, scheduling, worker, working = parts(made)
    assert manifest == before
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == (NAME, "team-a")
    assert made["metadata"]["labels"]["team"] == "a"
    assert made["spec"]["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == NAME
    assert made["spec"]["scheduler"]["service"]["type"] == "NodePort"
    assert "distributed.http.scheduler.api" in str(scheduling["env"])
    packages = {"EXTRA_CONDA_PACKAGES": "optuna optuna-integration scikit-learn"}
    assert env_of(working) == {**packages, "A": "1", "DASK_SCHEDULER_ADDRESS": f"tls://{ADDRESS}"}
    assert working["envFrom"] == scheduling["envFrom"] == [{"secretRef": {"name": f"{NAME}-tls"}}]
    assert worker["volumes"][0]["hostPath"]["path"] == "/srv"
    lease = manifests.lease(spec, OWNER, PLANNED, made, script="pass")
    assert lease["spec"]["template"]["spec"]["containers"][0]["image"] == "ghcr.io/dask/dask:latest"
    other = cluster_of(spec, parse_manifest(VALID.replace("/srv", "/other")))
    assert manifests.spec_hash(spec, made) != manifests.spec_hash(spec, other), "one path, another content"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PRINTED, r"image: \"ghcr.io/dask/dask:latest\".*line 18, column 9: .*line 17: compare the indentation"),
        ("a: b: c", "line 1"),
        ("kind: \x00", "valid YAML"),
        ("", "0 documents"),
        ("just text", "one document"),
        (VALID + "---\nkind: DaskJob\n", "2 documents"),
        (VALID.replace("DaskCluster", "DaskJob"), r"'kind': 'DaskJob'.*kind: DaskCluster"),
        (VALID.replace("org/v1", "org/v1beta1"), "apiVersion: kubernetes.dask.org/v1"),
        (VALID.replace("name: my-dask", "name: my.dask"), r"metadata.name.*at most 53"),
        (VALID.replace("[{name: <volume-name>", "[{name: data"), r"spec\.worker\.spec\.volumes': '<volume-name>'"),
        (VALID.replace("    service:", "    srvice:"), r"spec.scheduler.srvice.*spec, service, metadata"),
        (VALID[: VALID.index("    service:")], "spec.scheduler.service"),
        (VALID.replace("port: 8787 ", "port: 80 "), r"8787 \(targetPort is free\)"),
        (VALID.replace('targetPort: "tcp-comm"', "targetPort: comm"), "a port of the scheduler's container"),
        (VALID.replace("  worker:", "  idleTimeout: 60\n  worker:"), "idle_timeout of the spec"),
        (VALID.replace("      - name: worker\n", "      - command: [x]\n"), "containers with name, image"),
        (VALID.replace("name: my-dask\n", "labels: {a: true}\n", 1), r"metadata.labels.*true and 1 are no text"),
    ],
)
def test_a_manifest_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        parse_manifest(text)
    assert refused.value.field.startswith("KubernetesCluster.manifest")


@pytest.mark.parametrize("mount", ["volumeMounts", "volumeDevices"])
def test_a_volume_that_only_a_helper_has(mount: str) -> None:
    volume, helper = {"name": "tmp", "emptyDir": {}}, {"name": "fetch", "image": "x", mount: [{"name": "tmp"}]}
    overrides = {"spec": {"scheduler": {"spec": {"volumes": [volume], "initContainers": [helper]}}}}
    scheduler = parts(cluster_of(KubernetesCluster(manifest_overrides=overrides)))[0]
    assert scheduler["volumes"] == [volume]
    del helper[mount]
    with pytest.raises(InvalidInput, match=r"manifest_overrides: {'spec\.scheduler\.spec\.volumes': 'tmp'}"):
        cluster_of(KubernetesCluster(manifest_overrides=overrides))


async def test_text_may_be_json_in_one_line() -> None:
    text = json.dumps(parse_manifest(VALID))
    assert await clusters._read_manifest(KubernetesCluster(manifest=text)) == parse_manifest(VALID)


async def test_a_file_is_not_templated(tmp_path: Path) -> None:
    file = tmp_path / "dask.yaml"
    spec = KubernetesCluster(manifest=str(file))
    file.write_text(f"# {{{{ a remark }}}}\n{VALID}")
    assert await clusters._read_manifest(spec) == parse_manifest(VALID)
    for text in ("{{ params.image }}", "{% if params.image %}"):
        file.write_text(VALID.replace('"ghcr.io/dask/dask:latest"', text))
        with pytest.raises(InvalidInput, match=rf"image: {re.escape(text)}.*line \d+.*read_text\(\)"):
            await clusters._read_manifest(spec)


def test_a_manifest_that_contradicts_the_spec() -> None:
    spec = KubernetesCluster(manifest="x.yaml", workers=3)
    with pytest.raises(InvalidInput, match=r"spec.worker.replicas': 2.*3 as in workers=3"):
        cluster_of(spec, parse_manifest(VALID))
    manifest = parse_manifest(VALID.replace("  name: my-dask", "  namespace: other"))
    with pytest.raises(InvalidInput, match=r"metadata.namespace': 'other'.*team-a as in the spec"):
        cluster_of(KubernetesCluster(manifest="x.yaml"), manifest)
