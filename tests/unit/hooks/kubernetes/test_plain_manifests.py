"""What is created for a plain job, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from dask_provider.clusters.kubernetes_job import KubernetesJob
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes import plain_manifests
from dask_provider.hooks.kubernetes.manifests import owner_of, select
from dask_provider.owner import PLANNED, Attempt, Owner

OWNER = Owner("prod", "files", "run-1", "jan/preprocess.run/s3://lake/in/jan.csv")
ATTEMPT = Attempt(2, fresh=False, last=False, started=1000.25)
IMAGE = "ghcr.io/acme/etl:1"
#: as the tutorial of Luigi has it
SCHEMA = {"containers": [{"name": "preprocess-data", "image": "clc-example:v1", "command": ["python", "-m", "clc"]}]}


def made(**fields: Any) -> dict[str, Any]:
    return plain_manifests.job(KubernetesJob(**fields), OWNER, ATTEMPT, namespace="etl")


def pod_of(**fields: Any) -> dict[str, Any]:
    pod: dict[str, Any] = made(**fields)["spec"]["template"]["spec"]
    return pod


def test_a_job_that_ends_by_itself() -> None:
    job = made(
        image=IMAGE, active_deadline_seconds="2h", keep_seconds="1 min", labels={"team": "a"}, annotations={"x": "y"}
    )
    assert job["metadata"]["name"] == f"{OWNER.name}-2"
    assert {name: job["spec"][name] for name in job["spec"] if name != "template"} == {
        "suspend": True,
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "activeDeadlineSeconds": 7200,
        "ttlSecondsAfterFinished": 60,
    }
    assert owner_of(job) == OWNER
    labels = job["metadata"]["labels"]
    wanted = select(instance="prod", owner=OWNER.name, role="job")
    assert set(wanted.split(",")) <= {f"{name}={value}" for name, value in labels.items()}
    notes = job["metadata"]["annotations"]
    assert (labels["team"], notes["x"]) == ("a", "y")
    assert [notes[f"dask-provider/{name}"] for name in ("plain", "attempt", "started")] == ["true", "2", "1000.25"]
    assert "dask-provider/cluster" not in labels
    assert "ownerReferences" not in job["metadata"]


def test_who_lets_a_suspended_job_go() -> None:
    for attempt in (PLANNED, ATTEMPT):
        job = plain_manifests.job(KubernetesJob(image=IMAGE), OWNER, attempt, namespace="team-a")
        assert plain_manifests.waits_for_us(job), "a first try may be an orphan, too"
    queued = KubernetesJob(image=IMAGE, labels={"kueue.x-k8s.io/queue-name": "team-a"})
    job = plain_manifests.job(queued, OWNER, ATTEMPT, namespace="team-a")
    assert not job["spec"]["suspend"]
    job["spec"]["suspend"] = True  # as Kueue does
    assert not plain_manifests.waits_for_us(job)


def test_fields() -> None:
    pod = pod_of(
        image=IMAGE,
        cmd=["python"],
        arguments=["-m", "etl"],
        env={"A": "$(DASK_JOB_ID)"},
        service_account="files",
        image_pull_secrets=["registry"],
        volumes=[{"name": "lake", "emptyDir": {}}],
        volume_mounts=[{"name": "lake", "mountPath": "/lake"}],
        job_resources={"memory": "1 GiB"},
    )
    (container,) = pod["containers"]
    assert (container["command"], container["args"]) == (["python"], ["-m", "etl"])
    assert [item["name"] for item in container["env"]] == ["DASK_JOB_ID", "A"], "the first is seen by the second"
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("files", True)
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["restartPolicy"] == "Never"


def test_an_own_pod_with_fields_laid_over_it() -> None:
    schema = {**SCHEMA, "initContainers": [{"name": "wait", "image": "busybox"}], "hostNetwork": True}
    pod = pod_of(spec_schema=schema, cmd=["python", "-m", "clc.preprocess"], env={"A": "1"})
    assert (pod["hostNetwork"], pod["initContainers"][0]["name"]) == (True, "wait")
    (container,) = pod["containers"]
    assert (container["name"], container["image"]) == ("preprocess-data", "clc-example:v1")
    assert container["command"] == ["python", "-m", "clc.preprocess"]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "2Gi"}
    own = {"limits": {"memory": "1Gi"}}
    sized = {"containers": [{**SCHEMA["containers"][0], "resources": own}]}
    assert pod_of(spec_schema=sized)["containers"][0]["resources"] == own
    assert "job_resources" not in str(SCHEMA), "what was given is as it was"


def test_a_retry_adopts_what_is_the_same() -> None:
    def digest(**fields: Any) -> str:
        return plain_manifests.spec_hash(KubernetesJob(image=IMAGE, **fields))

    assert digest() == digest(active_deadline_seconds=60, labels={"a": "b"})
    assert len({digest(), digest(cmd=["a"]), digest(env={"A": "1"}), digest(arguments=["a"])}) == 4


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"image": None}, "image", "an image"),
        ({"cmd": "python -m etl"}, "cmd", "a list"),
        ({"arguments": [1]}, "arguments", "texts"),
        ({"env": {"A": 1}}, "env", "text values"),
        ({"image": "Not An Image"}, "image", "an image like"),
        ({"image_pull_policy": "Sometimes"}, "image_pull_policy", "one of Always"),
        ({"active_deadline_seconds": 0}, "active_deadline_seconds", "above zero"),
        ({"keep_seconds": -1}, "keep_seconds", "above zero"),
        ({"keep_seconds": 59}, "keep_seconds", "at least 60 s: a job that is gone tells nobody how it ended"),
        ({"labels": {"dask-provider/role": "lease"}}, "labels", "does not use"),
        ({"volumes": [{"name": "a", "emptyDir": {}}]}, "volumes", "mounts"),
        ({"spec_schema": {"containers": []}}, "spec_schema['containers']", "one container"),
        ({"spec_schema": {"containers": [{}, {}]}}, "spec_schema['containers']", "initContainers"),
        ({"spec_schema": {"restartPolicy": "OnFailure"}}, "spec_schema['restartPolicy']", "Airflow retries"),
        ({"name": "--"}, "name", "letters"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as no:
        KubernetesJob(**{"image": IMAGE, **fields})
    assert no.value.field == f"KubernetesJobOperator.{field}"
    assert allowed in no.value.allowed


def test_templates_are_checked_once_they_are_rendered() -> None:
    fields = {"image": "{{ image }}", "namespace": "{{ ns }}", "active_deadline_seconds": "{{ x }}"}
    spec = KubernetesJob(**fields, arguments=["{{ ds }}"])
    assert {name: getattr(spec, name) for name in fields} == fields
