# What the variables of an environment change, and what they refuse.

mock_provider "google" {
  source          = "../../mocks"
  override_during = plan
}

variables {
  project_id          = "acme-dask-dev"
  region              = "europe-west1"
  zone                = "europe-west1-b"
  provider_version    = "0.1.0"
  emails              = ["data-platform@acme.example"]
  billing_account     = "012345-6789AB-CDEF01"
  repository          = "acme/pipelines"
  repository_owner_id = "1234567"
}

run "another_lifetime_for_temporary_files" {
  command = plan

  variables {
    keep_days          = 3
    temporary_prefixes = ["scratch/"]
  }

  assert {
    condition     = one(google_storage_bucket.dataproc_staging.lifecycle_rule[0].condition).age == 3
    error_message = "keep_days is not used"
  }
  assert {
    condition     = one(google_storage_bucket.dataproc_staging.lifecycle_rule[0].condition).matches_prefix == tolist(["scratch/"])
    error_message = "temporary_prefixes is not used"
  }
}

run "no_budget" {
  command = plan

  variables {
    billing_account = null
  }

  assert {
    condition     = length(module.budget) == 0
    error_message = "a budget without a billing account"
  }
}

# Each of these would delete jobs, or everything.

run "refuses_an_empty_prefix" {
  command = plan
  variables {
    temporary_prefixes = [""]
  }
  expect_failures = [var.temporary_prefixes]
}

run "refuses_no_prefix" {
  command = plan
  variables {
    temporary_prefixes = []
  }
  expect_failures = [var.temporary_prefixes]
}

run "refuses_jobs" {
  command = plan
  variables {
    temporary_prefixes = ["dask/", "jobs/"]
  }
  expect_failures = [var.temporary_prefixes]
}

run "refuses_a_part_of_jobs" {
  command = plan
  variables {
    temporary_prefixes = ["jobs/old/"]
  }
  expect_failures = [var.temporary_prefixes]
}

run "refuses_a_prefix_without_a_slash" {
  command = plan
  variables {
    temporary_prefixes = ["job"]
  }
  expect_failures = [var.temporary_prefixes]
}

run "refuses_a_zone_of_another_region" {
  command = plan
  variables {
    zone = "us-central1-b"
  }
  expect_failures = [var.zone]
}

run "refuses_no_days" {
  command = plan
  variables {
    keep_days = 0
  }
  expect_failures = [var.keep_days]
}
