"""The rights of Airflow's account against every request that the hooks of Dataproc send: neither too few nor too many.

The account is the one of ``terraform/gcp``. Which right a request needs is Google's to say; this is the only place that
repeats it. A request that is not in the table fails the test, and so does an entry that no request has any more.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from dask_provider.hooks import dataproc
from dask_provider.hooks.dataproc.rights import BUCKET_RIGHTS, ELASTIC_RIGHTS, POLICY_RIGHTS, RIGHTS

from tests.terraform.conftest import GCP

HOOKS = Path(dataproc.__path__[0])
CLUSTERS, JOBS, POLICIES = "dataproc.clusters.", "dataproc.jobs.", "dataproc.autoscalingPolicies."
#: A request, as it stands in the code with ``{}`` for what is filled in, and the rights that Google wants for it.
REQUESTS: dict[str, tuple[str, ...]] = {
    "GET clusters": (f"{CLUSTERS}list",),
    "GET clusters/{}": (f"{CLUSTERS}get",),
    # With a policy and an account of the machines in it.
    "POST clusters": (f"{CLUSTERS}create", f"{POLICIES}use", "iam.serviceAccounts.actAs"),
    "PATCH clusters/{}": (f"{CLUSTERS}update",),
    "DELETE clusters/{}": (f"{CLUSTERS}delete",),
    "POST clusters/{}:diagnose": (f"{CLUSTERS}use",),
    "GET jobs": (f"{JOBS}list",),
    "GET jobs/{}": (f"{JOBS}get",),
    "POST jobs:submit": (f"{JOBS}create", f"{CLUSTERS}use"),
    "PATCH jobs/{}": (f"{JOBS}update",),
    "POST jobs/{}:cancel": (f"{JOBS}cancel",),
    "DELETE jobs/{}": (f"{JOBS}delete",),
    "POST autoscalingPolicies": (f"{POLICIES}create",),
    "PUT autoscalingPolicies/{}": (f"{POLICIES}update",),
    "DELETE autoscalingPolicies/{}": (f"{POLICIES}delete",),
    "GET <uri[uri.index('projects/'):]>": (f"{POLICIES}get",),
    "GET <operation>": ("dataproc.operations.get",),
    "GET <operation['name']>": ("dataproc.operations.get",),
    "GET storage storage/v1/b/{}": ("storage.buckets.get",),
    "GET storage storage/v1/b/{}/o": ("storage.objects.list",),
    "GET storage storage/v1/b/{}/o/{}": ("storage.objects.get",),
    "POST storage upload/storage/v1/b/{}/o": ("storage.objects.create",),
    "DELETE storage storage/v1/b/{}/o/{}": ("storage.objects.delete",),
    "GET serviceusage v1/{}/services/{}.googleapis.com": ("serviceusage.services.get",),
    "GET cloudresourcemanager v1/{}": ("resourcemanager.projects.get",),
    "GET compute compute/v1/{}": ("compute.projects.get",),
    "GET compute compute/v1/{}/regions/{}": ("compute.regions.get",),
    "GET compute compute/v1/{}/zones/{}/machineTypes/{}": ("compute.machineTypes.get",),
    "GET compute compute/v1/projects/{}/regions/{}/subnetworks/{}": ("compute.subnetworks.get",),
    "GET iam v1/projects/-/serviceAccounts/{}": ("iam.serviceAccounts.get",),
    "GET cloudkms v1/{}": ("cloudkms.cryptoKeys.get",),
    "GET cloudkms v1/{}:getIamPolicy": ("cloudkms.cryptoKeys.getIamPolicy",),
    "GET file v1/{}/locations/-/instances": ("file.instances.list",),
    # What one may do oneself everybody may ask.
    "GET storage storage/v1/b/{}/iam/testPermissions?{}": (),
    "POST cloudresourcemanager v1/{}:testIamPermissions": (),
    "POST iam v1/projects/-/serviceAccounts/{}:testIamPermissions": (),
}
NEEDED = {right for rights in REQUESTS.values() for right in rights}
#: What Google's own roles have of it; test_gcp.py sees that they are given, and where.
OF_ROLES = {
    "roles/iam.serviceAccountUser": {"iam.serviceAccounts.actAs", "iam.serviceAccounts.get"},
    "roles/storage.objectUser": {f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list")},
    "roles/storage.legacyBucketReader": {"storage.buckets.get"},
}
#: What sends a request, and which of its arguments are verb, service and path: methods of the client, and functions.
METHODS = {"call": (0, None, 1), "get": (None, None, 0), "find": (None, None, 0), "list": (None, None, 0)}
METHODS |= {"ask": (None, 0, 1), "storage": (0, None, 1), "storage_json": (None, None, 0)}
FUNCTIONS = {"_known": (None, 1, 2), "_missing": (None, 1, 2)}


def test_every_request_has_its_right() -> None:
    assert {request: file for file, request in requests() if request not in REQUESTS} == {}
    assert REQUESTS.keys() - {request for _, request in requests()} == set()


def test_the_role_has_what_is_needed_and_nothing_else() -> None:
    here, on_key = permissions("service-accounts", "airflow"), permissions("kms", "look")
    assert here | on_key | set().union(*OF_ROLES.values()) == NEEDED
    assert on_key == {right for right in NEEDED if right.startswith("cloudkms.")}
    assert not here & on_key


def test_preflight_asks_for_the_same_rights() -> None:
    assert set(RIGHTS) == {right for right in NEEDED if right.startswith("dataproc.") and POLICIES not in right}
    assert set(BUCKET_RIGHTS) == {right for right in NEEDED if right.startswith("storage.")}
    assert set(POLICY_RIGHTS) <= NEEDED
    assert set(ELASTIC_RIGHTS) == permissions("service-accounts", "elastic")  # the machines' own


def permissions(module: str, role: str) -> set[str]:
    """What a role of our own has, as it stands in the file: nothing needs Terraform for it."""
    text = (GCP / "modules" / module / "main.tf").read_text()
    (body,) = re.findall(rf'^resource "google_project_iam_custom_role" "{role}" \{{\n(.*?)^\}}', text, re.M | re.S)
    (found,) = re.findall(r"^  permissions = \[(.*?)\]", body, re.M | re.S)
    return set(re.findall(r'"([\w.]+)"', found))


def requests() -> Iterator[tuple[str, str]]:
    """File and request, for each place in the code that sends one."""
    for file in sorted(HOOKS.glob("*.py")):
        module = ast.parse(file.read_text())
        classes = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name != "Client"]
        for function in [each for scope in (module, *classes) for each in scope.body]:
            if getattr(function, "name", "") not in FUNCTIONS:
                texts = dict(literals(function))
                called = {id(node.func): node for node in ast.walk(function) if isinstance(node, ast.Call)}
                for node in ast.walk(function):
                    if arguments := sender(node):
                        # One that is handed on cannot be followed: the table does not have it either.
                        call = called.get(id(node))
                        yield file.name, request(call, arguments, texts) if call else f"? {ast.unparse(node)}"


def sender(node: ast.AST) -> tuple[int | None, int | None, int] | None:
    if isinstance(node, ast.Name):
        return FUNCTIONS.get(node.id)
    if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("client"):
        return METHODS.get(node.attr)
    return None


def request(call: ast.Call, arguments: tuple[int | None, int | None, int], texts: dict[str, str]) -> str:
    verb, service, path = (None if at is None else call.args[at] for at in arguments)
    assert path is not None
    name = ast.unparse(call.func).rpartition(".")[2]
    by_post = name == "_missing" or (name == "ask" and len(call.args) > 2)
    words = [ast.literal_eval(verb) if verb else "POST" if by_post else "GET"]
    words += [ast.literal_eval(service)] if service else ["storage"] if name in ("storage", "storage_json") else []
    return " ".join([*words, written_out(path, texts) or f"<{ast.unparse(path)}>"])


def literals(function: ast.AST) -> Iterator[tuple[str, str]]:
    """Names that a function gives to texts."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            for left, right in zip(target.elts, value.elts, strict=True) if several else [(target, value)]:
                if isinstance(left, ast.Name) and isinstance(right, ast.JoinedStr):
                    yield left.id, str(written_out(right, {}))


def written_out(node: ast.AST, texts: dict[str, str]) -> str | None:
    """A path with ``{}`` for what is filled in, or nothing where it cannot be told."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return texts.get(node.id)
    if isinstance(node, ast.JoinedStr):
        return "".join(written_out(part, texts) or "{}" for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return written_out(node.value, texts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        kind = {"clusters": "clusters", "jobs": "jobs", "policies": "autoscalingPolicies"}.get(node.func.attr)
        return kind and kind + ("/{}" if node.args else "")
    return None
