"""What deploy/kubernetes publishes is what the code uses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from dask_provider.clusters import KubernetesCluster
from dask_provider.hooks.kubernetes import manifests
from dask_provider.hooks.kubernetes.pods import HTTP
from dask_provider.hooks.kubernetes.rights import EXISTING, PLAIN, Right, role_rules
from dask_provider.owner import Owner

ROOT = Path(__file__).parents[4]
DEPLOY = ROOT / "deploy" / "kubernetes"
OWNER = Owner("prod", "dag", "run", "task")


def published(kind: str) -> list[dict[str, Any]]:
    """All objects of that kind that the base lists."""
    files = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())["resources"]
    found = [made for name in files for made in yaml.safe_load_all((DEPLOY / name).read_text())]
    return [made for made in found if made["kind"] == kind]


def test_the_role_is_what_the_provider_asks_for() -> None:
    (role,) = published("Role")
    assert role["rules"] == role_rules()
    (binding,) = published("RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [subject["name"] for subject in binding["subjects"]] == ["airflow"]
    assert not published("ClusterRole"), "nothing beyond the namespace"


@pytest.mark.parametrize(("file", "needed"), [("rights-plain-jobs.yaml", PLAIN), ("rights-existing.yaml", EXISTING)])
def test_the_smaller_roles_are_what_is_asked_for_without_clusters_of_ours(file: str, needed: tuple[Right, ...]) -> None:
    role = yaml.safe_load((DEPLOY / file).read_text())
    assert (role["kind"], role["rules"]) == ("Role", role_rules(needed))
    assert f"{file} " in (readme := (DEPLOY / "README.md").read_text())
    assert f"the Role {role['metadata']['name']}\n" in readme


def test_all_pods_of_a_cluster_are_inside_the_network_policy() -> None:
    (policy,) = published("NetworkPolicy")
    inside = policy["spec"]["podSelector"]["matchLabels"].items()
    assert inside <= manifests.labels(OWNER, "job").items()
    own, http = policy["spec"]["ingress"]
    assert [list(peer) for peer in own["from"]] == [["podSelector"]]
    assert own["from"][0]["podSelector"]["matchLabels"].items() == inside
    assert [port["port"] for port in http["ports"]] == [HTTP[0]]


@pytest.mark.parametrize("kind", ["ResourceQuota", "LimitRange"])
def test_the_examples_leave_room_for_a_cluster_of_defaults(kind: str) -> None:
    (made,) = published(kind)
    spec = KubernetesCluster(image="dask:1")
    if kind == "LimitRange":
        most = made["spec"]["limits"][0]["max"]
    else:
        most = {name: made["spec"]["hard"][f"limits.{name}"] for name in ("cpu", "memory")}
    for quantities in (spec.worker_quantities, spec.scheduler_quantities, spec.job_quantities):
        assert int(quantities["limits"]["cpu"]) <= int(most["cpu"])
        assert int(quantities["limits"]["memory"].removesuffix("Gi")) <= int(most["memory"].removesuffix("Gi"))


def test_the_operator_that_is_recommended_is_the_one_that_is_tested() -> None:
    (tested,) = re.findall(r"^dask-kubernetes==(\S+)", (ROOT / "requirements" / "operator.txt").read_text(), re.M)
    assert f"--version {tested} " in (DEPLOY / "README.md").read_text()
