"""terraform/gcp: its form, its tests, and rules that hold for every resource of both environments."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.conftest import require
from tests.servers.terraform import checkov_environment
from tests.terraform.conftest import GCP, Terraform, copied
from tests.terraform.plans import Outcome, Plan, read_outcome

ENVIRONMENTS = ["dev", "prod"]
WHOLE = "tests/environment.tftest.hcl"
COMPOSER, RUNTIME, PIPELINE = (
    f"serviceAccount:{name}@acme.iam.gserviceaccount.com" for name in ("composer", "runtime", "pipeline")
)
both = pytest.mark.parametrize("environment", ENVIRONMENTS)


def test_format(program: str) -> None:
    done = subprocess.run(
        [program, "fmt", "-check", "-diff", "-recursive", str(GCP)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What checkov says. It needs neither Terraform nor the provider."""
    try:
        environment = checkov_environment()
    except RuntimeError as error:
        require(f"checkov ({error})", False)
        raise
    folder = copied(tmp_path_factory.mktemp("checkov"))
    command = [str(environment / "bin" / "checkov"), "--directory", str(folder), "--framework", "terraform"]
    done = subprocess.run(
        [*command, "--skip-download", "--output", "json"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_every_file_can_be_read(policies: dict[str, Any]) -> None:
    assert policies["results"]["parsing_errors"] == []


def test_policies(policies: dict[str, Any]) -> None:
    found = [f"{check['check_id']} {check['resource']}" for check in policies["results"]["failed_checks"]]
    assert found == []
    passed = {(check["check_id"], check["resource"]) for check in policies["results"]["passed_checks"]}
    # It has seen the environments and, through them, their modules.
    assert ("CKV_GCP_29", "google_storage_bucket.dataproc_staging") in passed  # uniform access
    assert ("CKV_GCP_82", "module.kms.google_kms_crypto_key.this") in passed  # keys are not destroyed
    reasons = [check["check_result"].get("suppress_comment") for check in policies["results"]["skipped_checks"]]
    assert all(reason and len(reason) > 20 for reason in reasons), "a policy is skipped without a reason"


def test_prod_is_dev_but_for_its_settings() -> None:
    dev, prod = ({path.name: path.read_text() for path in (GCP / "envs" / name).glob("*.tf")} for name in ENVIRONMENTS)
    assert dev.keys() == prod.keys() >= {"main.tf", "outputs.tf", "settings.tf", "variables.tf", "versions.tf"}
    assert {name for name in dev if dev[name] != prod[name]} == {"settings.tf"}


@both
def test_valid(initialised: Callable[[str], Terraform], environment: str) -> None:
    done = initialised(environment).run(environment, "validate", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def outcome(initialised: Callable[[str], Terraform]) -> Callable[[str], Outcome]:
    @cache
    def outcome_of(environment: str) -> Outcome:
        terraform = initialised(environment)
        files = sorted(file.name for file in (GCP / "envs" / environment / "tests").glob("*.tftest.hcl"))
        others = [f"-filter=tests/{name}" for name in files if f"tests/{name}" != WHOLE]
        # With each plan comes the schema of the whole provider: only the one that is read is asked for.
        said = terraform.run(environment, "test", "-json", "-verbose", f"-filter={WHOLE}").stdout
        return read_outcome(said + (terraform.run(environment, "test", "-json", *others).stdout if others else ""))

    return outcome_of


@pytest.fixture
def plan(outcome: Callable[[str], Outcome], environment: str) -> Plan:
    """The whole environment, as it would be made."""
    result = outcome(environment)
    (whole,) = result.plans.values() or pytest.fail(f"nothing was planned: {result.said}")
    return whole


@both
def test_terraform_tests(outcome: Callable[[str], Outcome], environment: str) -> None:
    result = outcome(environment)
    assert set(result.states.values()) == {"pass"}, result.said
    files = (GCP / "envs" / environment / "tests").glob("*.tftest.hcl")
    assert len(result.states) == sum(len(re.findall(r'^run "', file.read_text(), re.M)) for file in files) > 0


@both
def test_targets_and_outputs_of_the_instructions(plan: Plan) -> None:
    addresses = {resource.address for resource in plan.resources}
    assert "google_storage_bucket.dataproc_staging" in addresses
    assert any(address.startswith("module.phase2_service_accounts.") for address in addresses)
    assert any(address.startswith("module.composer.") for address in addresses)
    assert plan.outputs >= {"composer_environment_name", "composer_dag_gcs_prefix", "dataproc_staging_bucket"}


@both
def test_nobody_has_a_key_or_a_basic_role(plan: Plan) -> None:
    assert not plan.of("google_service_account_key", "google_storage_hmac_key", "google_apikeys_key")
    # A binding or a policy takes rights away from others of the project; a member only adds.
    authoritative = [item.address for item in plan.resources if re.search("_iam_(binding|policy)$", item.type)]
    assert authoritative == []
    roles = {role for item in plan.resources if (role := item.values.get("role"))}
    assert not {role for role in roles if re.search(r"roles/(owner|editor|viewer)$|[aA]dmin$", role)} - {
        "roles/storage.objectAdmin"  # Composer, in the bucket of its own environment
    }
    assert [item.address for item in plan.resources if item.values.get("role") == "roles/storage.objectAdmin"] == [
        "module.composer.google_storage_bucket_iam_member.environment"
    ]
    assert not [
        item.address for item in plan.resources if item.values.get("member") in ("allUsers", "allAuthenticatedUsers")
    ]


@both
def test_rights_in_the_whole_project(plan: Plan) -> None:
    """In the project, a node may only report and resize clusters; what a job reads is given bucket by bucket."""

    def in_project(member: str) -> set[str]:
        return {role for grant, role in plan.grants(member) if grant.type == "google_project_iam_member"}

    assert in_project(RUNTIME) == {"projects/acme/roles/node", "projects/acme/roles/elastic"}
    assert in_project(COMPOSER) == {"projects/acme/roles/airflow", "roles/composer.worker"}
    assert in_project(PIPELINE) == set()
    assert {grant.values["member"] for grant in plan.of("google_project_iam_member")} == {RUNTIME, COMPOSER}


@both
def test_who_may_use_and_who_may_look_at_a_key(plan: Plan) -> None:
    grants = plan.of("google_kms_crypto_key_iam_member")
    own = [(grant.values["role"], member) for grant in grants if (member := grant.values.get("member")) is not None]
    assert [grant for grant in own if grant[1] in (COMPOSER, RUNTIME, PIPELINE)] == [
        ("projects/acme/roles/look_at_key", COMPOSER)
    ]
    look = plan.one("module.kms.google_project_iam_custom_role.look").values["permissions"]
    assert set(look) == {"cloudkms.cryptoKeys.get", "cloudkms.cryptoKeys.getIamPolicy"}


@both
def test_who_may_act_as_whom(plan: Plan) -> None:
    acting = {
        (grant.values["service_account_id"].rpartition("/")[2], grant.values["role"], grant.values["member"])
        for grant in plan.of("google_service_account_iam_member")
    }
    pool = "principalSet://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/dask"
    assert acting == {
        ("runtime@acme.iam.gserviceaccount.com", "roles/iam.serviceAccountUser", COMPOSER),
        (
            "pipeline@acme.iam.gserviceaccount.com",
            "roles/iam.workloadIdentityUser",
            f"{pool}/attribute.repository/acme/pipelines",
        ),
    }


@both
def test_rights_in_buckets(plan: Plan) -> None:
    def in_buckets(member: str) -> set[tuple[str, str]]:
        kind = "google_storage_bucket_iam_member"
        prefix = re.compile(r".*/objects/")
        return {
            (grant.values["bucket"].partition("-dataproc-")[2] or "composer", role)
            if not (condition := grant.block("condition").get("expression"))
            else (prefix.sub("", condition).rstrip('")'), role)
            for grant, role in plan.grants(member)
            if grant.type == kind
        }

    objects, bucket = "roles/storage.objectUser", "roles/storage.legacyBucketReader"
    shared = {(name, role) for name in ("staging", "temp") for role in (objects, bucket)}
    assert in_buckets(RUNTIME) == shared
    assert in_buckets(COMPOSER) == shared | {("composer", "roles/storage.objectAdmin")}
    names = {(name, "projects/acme/roles/list") for name in ("staging", "composer")}
    written = {(prefix, objects) for prefix in ("jobs/", "initialization-actions/", "wheels/", "dags/")}
    assert in_buckets(PIPELINE) == names | written


@both
def test_all_data_is_encrypted_with_our_keys_and_private(plan: Plan) -> None:
    key = "projects/acme/locations/europe-west1/keyRings/dask/cryptoKeys/key"
    buckets = plan.of("google_storage_bucket")
    assert len(buckets) == 3
    for bucket in buckets:
        assert bucket.block("encryption")["default_kms_key_name"] == key, bucket.address
        assert bucket.values["uniform_bucket_level_access"] is True, bucket.address
        assert bucket.values["public_access_prevention"] == "enforced", bucket.address
    for item in plan.of("google_artifact_registry_repository", "google_filestore_instance"):
        assert item.values["kms_key_name"] == key, item.address
    composer = plan.one("module.composer.google_composer_environment.this").block("config")
    assert composer["encryption_config"] == [{"kms_key_name": key}]
    assert composer["enable_private_environment"] is True
    assert not plan.of("google_compute_address", "google_compute_global_address", "google_compute_instance")
    for rule in plan.of("google_compute_firewall"):
        assert not rule.values.get("source_ranges"), f"{rule.address} lets addresses in"


@both
def test_nothing_that_holds_data_is_deleted_in_passing(plan: Plan, environment: str) -> None:
    for bucket in plan.of("google_storage_bucket"):
        temporary = bucket.address == "module.storage.google_storage_bucket.temporary"
        assert bucket.values["force_destroy"] is temporary, bucket.address
        expiring = bucket.address == "google_storage_bucket.dataproc_staging"
        assert bool(bucket.values["lifecycle_rule"]) is (temporary or expiring), bucket.address
    assert plan.of("google_filestore_instance")[0].values["deletion_protection_enabled"] is (environment == "prod")
    assert all(api.values["disable_on_destroy"] is False for api in plan.of("google_project_service"))
    # Whether a resource may be destroyed is no attribute of it.
    for file, kind in (
        (GCP / "envs" / environment / "main.tf", '"google_storage_bucket" "dataproc_staging"'),
        (GCP / "modules" / "composer" / "main.tf", '"google_storage_bucket" "this"'),
        (GCP / "modules" / "kms" / "main.tf", '"google_kms_crypto_key" "this"'),
    ):
        (body,) = re.findall(rf"^resource {kind} \{{\n(.*?)^\}}", file.read_text(), re.M | re.S)
        assert re.search(r"^  lifecycle \{\n    prevent_destroy = true\n", body, re.M), kind


@both
def test_airflow_gets_the_variables_of_the_dags(plan: Plan) -> None:
    (software,) = plan.one("module.composer.google_composer_environment.this").block("config")["software_config"]
    names = {name.removeprefix("AIRFLOW_VAR_").lower() for name in software["env_variables"]}
    assert names == {
        "gcp_project_id",
        "gcp_region",
        "dataproc_staging_bucket",
        "subnetwork_services_uri",
        "dataproc_runtime_sa_email",
        "filestore_ip_address",
    }
    assert software["env_variables"]["AIRFLOW_VAR_DATAPROC_RUNTIME_SA_EMAIL"] == RUNTIME.partition(":")[2]
    assert software["pypi_packages"] == {"airflow-provider-dask": "[dataproc,gcs]==0.1.0"}


@both
def test_somebody_hears_of_what_costs_money(plan: Plan) -> None:
    alerts = {alert.values["display_name"].partition(": ")[2] for alert in plan.of("google_monitoring_alert_policy")}
    assert alerts == {
        "Dataproc cluster older than its lifetime",
        "Dataproc job failed",
        "Dataproc could not make or delete a cluster",
        "Dask clusters are larger than planned",
    }
    assert len(plan.of("google_billing_budget")) == len(plan.of("google_monitoring_dashboard")) == 1
