# A pipeline of GitHub acts as an account of Google without any key: GitHub vouches for the run, Google believes it for
# this repository and these refs only.

resource "google_iam_workload_identity_pool" "this" {
  project                   = var.project_id
  workload_identity_pool_id = var.name
  display_name              = "Pipelines"
}

locals {
  refs = join(", ", [for ref in var.refs : "'${ref}'"])
}

resource "google_iam_workload_identity_pool_provider" "github" {
  #checkov:skip=CKV_GCP_125:repository, its owner's number and ref say more than the subject that this check looks for
  project                            = var.project_id
  workload_identity_pool_id          = google_iam_workload_identity_pool.this.workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  display_name                       = "GitHub"

  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }
  # The owner by number too: names of deleted owners can be taken by somebody else.
  attribute_condition = join(" && ", [
    "assertion.repository == '${var.repository}'",
    "assertion.repository_owner_id == '${var.repository_owner_id}'",
    "assertion.ref in [${local.refs}]",
  ])

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account" "pipeline" {
  project      = var.project_id
  account_id   = "${var.name}-ci"
  display_name = "Pipelines: jobs, DAGs and wheels"
}

resource "google_service_account_iam_member" "pipeline" {
  service_account_id = google_service_account.pipeline.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.this.name}/attribute.repository/${var.repository}"
}

# It writes below these prefixes and nowhere else.
resource "google_storage_bucket_iam_member" "objects" {
  for_each = var.uploads

  bucket = each.value.bucket
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${google_service_account.pipeline.email}"

  condition {
    title      = "below-${trimsuffix(each.value.prefix, "/")}"
    expression = "resource.name.startsWith(\"projects/_/buckets/${each.value.bucket}/objects/${each.value.prefix}\")"
  }
}

# To see what is there already. A list is asked of the bucket, so it cannot be limited to a prefix.
resource "google_storage_bucket_iam_member" "list" {
  for_each = toset([for upload in var.uploads : upload.bucket])

  bucket = each.key
  role   = google_project_iam_custom_role.list.id
  member = "serviceAccount:${google_service_account.pipeline.email}"
}

resource "google_project_iam_custom_role" "list" {
  project     = var.project_id
  role_id     = "${replace(var.name, "-", "_")}_list"
  title       = "Names of objects"
  description = "List the objects of a bucket, without reading one."
  permissions = ["storage.buckets.get", "storage.objects.list"]
}

resource "google_artifact_registry_repository_iam_member" "wheels" {
  project    = var.project_id
  location   = var.location
  repository = var.wheel_repository
  role       = "roles/artifactregistry.writer"
  member     = "serviceAccount:${google_service_account.pipeline.email}"
}
