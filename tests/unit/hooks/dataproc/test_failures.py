"""What is said of Google's refusals."""

import pytest
from dask_provider.hooks.dataproc.failures import advised

BUCKET = (
    "gs://storage.objects.quota-bucket/google-cloud-dataproc-metainfo/u/etl-m/dataproc-initialization-script-0_output"
)


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        ("Insufficient 'CPUS' quota. Requested 8.0, available 3.0. (INVALID_ARGUMENT)", "fewer or smaller machines"),
        ("Quota 'N2_CPUS' exceeded. Limit: 24.0 in region europe-west1.", "fewer or smaller machines"),
        ("The zone 'z' does not have enough resources available to fulfill the request.", "another machine type"),
        ("Permission denied on resource project acme. (PERMISSION_DENIED)", "the project is there"),
        ("User not authorized to act as service account 'x@y'. (PERMISSION_DENIED)", "Service Account User"),
        ("Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied on resource 'k'.", "Cloud KMS CryptoKey"),
        ("x does not have storage.objects.get access to the bucket. (HTTP 403)", "Storage Object Admin"),
        ("x does not have storage.buckets.get access to the bucket. (HTTP 403)", "Storage Legacy Bucket Reader"),
        ("Required 'compute.subnetworks.use' permission for 'services' (PERMISSION_DENIED)", "Compute Network User"),
    ],
)
def test_the_cause_stays_and_what_helps_follows(said: str, helps: str) -> None:
    cause, _, remedy = advised(said).partition(". What helps: ")
    assert said.startswith(cause)
    assert helps in remedy


@pytest.mark.parametrize(
    "said",
    [f"Initialization action failed. Failed action 'gs://b/x.sh', see output in: {BUCKET}.", "Something new happened."],
)
def test_no_advice_is_better_than_a_wrong_one(said: str) -> None:
    assert advised(said) == said
