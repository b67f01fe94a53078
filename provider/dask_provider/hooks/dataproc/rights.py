"""What each account needs, for preflight to ask and for refusals to be understood."""

from __future__ import annotations

from collections.abc import Iterable

#: what Airflow's account does at Dataproc
RIGHTS = (
    *(f"dataproc.clusters.{verb}" for verb in ("create", "delete", "get", "list", "update", "use")),
    *(f"dataproc.jobs.{verb}" for verb in ("cancel", "create", "delete", "get", "list", "update")),
    "dataproc.operations.get",
)
#: what it does with a policy
POLICY_RIGHTS = ("dataproc.autoscalingPolicies.get", "dataproc.autoscalingPolicies.use")
#: what the machines' account does at Dataproc where the master asks for machines
ELASTIC_RIGHTS = (*(f"dataproc.clusters.{verb}" for verb in ("get", "repair", "update")), "dataproc.operations.get")
#: what both do in buckets. The bucket itself is looked at by Dataproc, when it makes a cluster, and by gcsfs
BUCKET_RIGHTS = (*(f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list")), "storage.buckets.get")
#: roles that have these, and their names: the first one alone lacks ``storage.buckets.get``
BUCKET_ROLES = {
    "roles/storage.objectAdmin": "Storage Object Admin",
    "roles/storage.legacyBucketReader": "Storage Legacy Bucket Reader",
}
#: what must encrypt with a cluster's key
KEY_ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
#: accounts of Google's own that do: for disks, for the arguments of jobs, and for what Dataproc writes into buckets
AGENTS = {"compute-system": "Compute Engine", "dataproc-accounts": "Dataproc", "gs-project-accounts": "Cloud Storage"}


def in_words(names: Iterable[str]) -> str:
    """``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
