# What Google would answer. Accounts are told apart by their addresses, which the tests need to know before anything is
# made: they look at plans only.

mock_data "google_project" {
  defaults = { number = "123456789012" }
}

mock_data "google_storage_project_service_account" {
  defaults = { email_address = "service-123456789012@gs-project-accounts.iam.gserviceaccount.com" }
}

mock_resource "google_compute_subnetwork" {
  defaults = { id = "projects/acme/regions/europe-west1/subnetworks/one" }
}

mock_resource "google_filestore_instance" {
  defaults = { networks = { ip_addresses = ["10.20.8.2"] } }
}

mock_resource "google_kms_crypto_key" {
  defaults = { id = "projects/acme/locations/europe-west1/keyRings/dask/cryptoKeys/key" }
}

mock_resource "google_composer_environment" {
  defaults = {
    config = {
      airflow_uri    = "https://airflow.acme.example"
      dag_gcs_prefix = "gs://acme-composer/dags"
    }
  }
}

override_resource {
  target = module.phase2_service_accounts.google_service_account.composer
  values = {
    email = "composer@acme.iam.gserviceaccount.com"
    name  = "projects/acme/serviceAccounts/composer@acme.iam.gserviceaccount.com"
  }
}

override_resource {
  target = module.phase2_service_accounts.google_service_account.runtime
  values = {
    email = "runtime@acme.iam.gserviceaccount.com"
    name  = "projects/acme/serviceAccounts/runtime@acme.iam.gserviceaccount.com"
  }
}

override_resource {
  target = module.phase2_service_accounts.google_project_iam_custom_role.airflow
  values = { id = "projects/acme/roles/airflow" }
}

override_resource {
  target = module.phase2_service_accounts.google_project_iam_custom_role.elastic
  values = { id = "projects/acme/roles/elastic" }
}

override_resource {
  target = module.phase2_service_accounts.google_project_iam_custom_role.node
  values = { id = "projects/acme/roles/node" }
}

override_resource {
  target = module.kms.google_project_iam_custom_role.look
  values = { id = "projects/acme/roles/look_at_key" }
}

override_resource {
  target = module.workload_identity.google_service_account.pipeline
  values = {
    email = "pipeline@acme.iam.gserviceaccount.com"
    name  = "projects/acme/serviceAccounts/pipeline@acme.iam.gserviceaccount.com"
  }
}

override_resource {
  target = module.workload_identity.google_project_iam_custom_role.list
  values = { id = "projects/acme/roles/list" }
}

override_resource {
  target = module.workload_identity.google_iam_workload_identity_pool.this
  values = { name = "projects/123456789012/locations/global/workloadIdentityPools/dask" }
}
