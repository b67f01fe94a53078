# What belongs to the staging bucket, which the environment itself makes: the bucket of Dataproc's short-lived files,
# and who may do what in both.

resource "google_storage_bucket" "temporary" {
  #checkov:skip=CKV_GCP_62:access is in the audit logs of Cloud Storage, which need no bucket of their own
  #checkov:skip=CKV_GCP_78:nothing here is wanted a week later, so there are no older versions to keep
  project                     = var.project_id
  name                        = var.temporary_bucket
  location                    = var.location
  labels                      = var.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  encryption {
    default_kms_key_name = var.kms_key
  }

  # The whole bucket: Dataproc puts its files into folders named after a cluster's id, and nobody else writes here.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = var.keep_days
    }
  }

  # Deleted is deleted: otherwise all of it is paid for another week.
  soft_delete_policy {
    retention_duration_seconds = 0
  }
}

locals {
  buckets = { staging = var.staging_bucket, temporary = google_storage_bucket.temporary.name }
  # objectUser reads and writes objects; Dataproc and gcsfs look at the bucket itself too.
  roles = ["roles/storage.objectUser", "roles/storage.legacyBucketReader"]
  grants = {
    for grant in setproduct(keys(local.buckets), keys(var.accounts), local.roles) :
    join("/", grant) => { bucket = grant[0], account = grant[1], role = grant[2] }
  }
}

resource "google_storage_bucket_iam_member" "accounts" {
  for_each = local.grants

  bucket = local.buckets[each.value.bucket]
  role   = each.value.role
  member = "serviceAccount:${var.accounts[each.value.account]}"
}
