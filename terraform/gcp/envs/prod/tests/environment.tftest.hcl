# The whole environment, planned as it would be applied. tests/terraform/ reads this plan too, every resource of it.

mock_provider "google" {
  source          = "../../mocks"
  override_during = plan
}

variables {
  project_id          = "acme-dask-prod"
  region              = "europe-west1"
  zone                = "europe-west1-b"
  provider_version    = "0.1.0"
  emails              = ["data-platform@acme.example"]
  billing_account     = "012345-6789AB-CDEF01"
  repository          = "acme/pipelines"
  repository_owner_id = "1234567"
}

run "environment" {
  command = plan

  assert {
    condition     = output.composer_environment_name == "dask-prod-composer"
    error_message = "composer_environment_name: ${output.composer_environment_name}"
  }

  assert {
    condition     = output.composer_dag_gcs_prefix == "gs://acme-composer/dags"
    error_message = "composer_dag_gcs_prefix: ${output.composer_dag_gcs_prefix}"
  }

  assert {
    condition     = output.dataproc_staging_bucket == "acme-dask-prod-dataproc-staging"
    error_message = "dataproc_staging_bucket: ${output.dataproc_staging_bucket}"
  }

  # Jobs, and all else that is not named, stay.
  assert {
    condition = length(google_storage_bucket.dataproc_staging.lifecycle_rule) > 0 && alltrue(flatten([
      for rule in google_storage_bucket.dataproc_staging.lifecycle_rule : [
        for condition in rule.condition : length(coalesce(condition.matches_prefix, [])) > 0
      ]
    ]))
    error_message = "a lifecycle rule without a prefix deletes everything"
  }
  assert {
    condition = alltrue(flatten([
      for rule in google_storage_bucket.dataproc_staging.lifecycle_rule : [
        for condition in rule.condition : [
          for prefix in coalesce(condition.matches_prefix, []) : !startswith("jobs/job.py", prefix) && !startswith(prefix, "jobs")
        ]
      ]
    ]))
    error_message = "a lifecycle rule deletes jobs"
  }

  # What a run of seven days ago left is gone, older versions too.
  assert {
    condition     = anytrue([for rule in google_storage_bucket.dataproc_staging.lifecycle_rule : one(rule.condition).age == 7])
    error_message = "nothing is deleted after 7 days"
  }
  assert {
    condition     = anytrue([for rule in google_storage_bucket.dataproc_staging.lifecycle_rule : one(rule.condition).days_since_noncurrent_time == 1])
    error_message = "versions that were deleted are paid for without end"
  }
}
