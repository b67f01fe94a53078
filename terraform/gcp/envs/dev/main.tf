# The same in dev and prod: what differs is in settings.tf.

locals {
  name   = "dask-${local.environment}"
  labels = { environment = local.environment, component = "dask" }

  staging_bucket = "${var.project_id}-dataproc-staging"

  # Google's own accounts, which encrypt with our keys.
  agent = { for name, domain in {
    artifacts = "gcp-sa-artifactregistry"
    composer  = "cloudcomposer-accounts"
    compute   = "compute-system"
    dataproc  = "dataproc-accounts"
    filestore = "cloud-filer"
  } : name => "service-${data.google_project.this.number}@${domain}.iam.gserviceaccount.com" }
}

module "apis" {
  source = "../../modules/apis"

  project_id = var.project_id
  services = [
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudkms.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "composer.googleapis.com",
    "compute.googleapis.com",
    "dataproc.googleapis.com",
    "file.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "serviceusage.googleapis.com",
    "storage.googleapis.com",
    "sts.googleapis.com",
  ]
}

data "google_project" "this" {
  project_id = var.project_id
  depends_on = [module.apis]
}

data "google_storage_project_service_account" "this" {
  project    = var.project_id
  depends_on = [module.apis]
}

module "phase2_service_accounts" {
  source = "../../modules/service-accounts"

  project_id = var.project_id
  name       = local.name
  depends_on = [module.apis]
}

module "network" {
  source = "../../modules/network"

  project_id           = var.project_id
  name                 = local.name
  region               = var.region
  management_range     = "10.20.0.0/24"
  services_range       = "10.20.4.0/22"
  node_service_account = module.phase2_service_accounts.runtime_email
  depends_on           = [module.apis]
}

module "kms" {
  source = "../../modules/kms"

  project_id = var.project_id
  name       = local.name
  location   = var.region
  agents = {
    artifacts = { artifacts = local.agent.artifacts }
    composer  = { composer = local.agent.composer, storage = data.google_storage_project_service_account.this.email_address }
    dataproc = {
      compute  = local.agent.compute
      dataproc = local.agent.dataproc
      storage  = data.google_storage_project_service_account.this.email_address
    }
    filestore = { filestore = local.agent.filestore }
  }
  readers    = { dataproc = module.phase2_service_accounts.composer_email }
  depends_on = [module.apis]
}

# Job scripts, their input and output, and what Dataproc and this provider keep while a job runs.
resource "google_storage_bucket" "dataproc_staging" {
  #checkov:skip=CKV_GCP_62:access is in the audit logs of Cloud Storage, which need no bucket of their own
  project                     = var.project_id
  name                        = local.staging_bucket
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  encryption {
    default_kms_key_name = module.kms.keys["dataproc"]
  }

  # An overwritten job can be had back.
  versioning {
    enabled = true
  }

  # In a bucket with versions the first rule only hides; the second removes what was hidden. Both name prefixes: what is
  # not named stays.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.keep_days
      with_state     = "LIVE"
      matches_prefix = var.temporary_prefixes
    }
  }
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 1
      with_state                 = "ARCHIVED"
      matches_prefix             = var.temporary_prefixes
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

module "storage" {
  source = "../../modules/storage"

  project_id       = var.project_id
  location         = var.region
  staging_bucket   = google_storage_bucket.dataproc_staging.name
  temporary_bucket = "${var.project_id}-dataproc-temp"
  keep_days        = var.keep_days
  kms_key          = module.kms.keys["dataproc"]
  labels           = local.labels
  accounts = {
    composer = module.phase2_service_accounts.composer_email
    runtime  = module.phase2_service_accounts.runtime_email
  }
}

module "filestore" {
  source = "../../modules/filestore"

  project_id          = var.project_id
  name                = local.name
  zone                = var.zone
  network             = module.network.network
  client_range        = module.network.services_range
  capacity_gb         = local.filestore_gb
  kms_key             = module.kms.keys["filestore"]
  deletion_protection = local.deletion_protection
  labels              = local.labels
}

module "artifact_registry" {
  source = "../../modules/artifact-registry"

  project_id = var.project_id
  location   = var.region
  name       = local.name
  kms_key    = module.kms.keys["artifacts"]
  readers    = { composer = module.phase2_service_accounts.composer_email }
  labels     = local.labels
}

module "composer" {
  source = "../../modules/composer"

  project_id       = var.project_id
  name             = "${local.name}-composer"
  region           = var.region
  bucket           = "${var.project_id}-composer"
  network          = module.network.network
  subnetwork       = module.network.management_subnetwork
  service_account  = module.phase2_service_accounts.composer_email
  kms_key          = module.kms.keys["composer"]
  image_version    = var.image_version
  provider_version = var.provider_version
  package_index    = module.artifact_registry.index_url
  extra_packages   = var.extra_packages
  instance         = local.name
  staging          = "gs://${google_storage_bucket.dataproc_staging.name}/dask/"
  size             = local.composer.size
  workers          = local.composer.workers
  high_resilience  = local.composer.high_resilience
  snapshots        = local.composer.snapshots
  ui_ranges        = var.ui_ranges
  labels           = local.labels

  airflow_variables = merge(
    {
      gcp_project_id            = var.project_id
      gcp_region                = var.region
      dataproc_staging_bucket   = google_storage_bucket.dataproc_staging.name
      subnetwork_services_uri   = module.network.services_subnetwork
      dataproc_runtime_sa_email = module.phase2_service_accounts.runtime_email
      filestore_ip_address      = module.filestore.ip_address
    },
    var.extra_variables,
  )
}

module "dataproc_autoscaling" {
  source = "../../modules/dataproc-autoscaling"

  project_id = var.project_id
  region     = var.region
  policies   = local.policies
  depends_on = [module.apis]
}

module "workload_identity" {
  source = "../../modules/workload-identity"

  project_id          = var.project_id
  name                = local.name
  repository          = var.repository
  repository_owner_id = var.repository_owner_id
  refs                = local.refs
  location            = var.region
  wheel_repository    = module.artifact_registry.wheel_repository
  uploads = {
    jobs    = { bucket = google_storage_bucket.dataproc_staging.name, prefix = "jobs/" }
    actions = { bucket = google_storage_bucket.dataproc_staging.name, prefix = "initialization-actions/" }
    wheels  = { bucket = google_storage_bucket.dataproc_staging.name, prefix = "wheels/" }
    dags    = { bucket = module.composer.bucket, prefix = "dags/" }
  }
  depends_on = [module.apis]
}

module "monitoring" {
  source = "../../modules/monitoring"

  project_id         = var.project_id
  region             = var.region
  name               = local.name
  emails             = var.emails
  max_lifetime_hours = local.max_lifetime_hours
  max_cpus           = local.max_cpus
  depends_on         = [module.apis]
}

module "budget" {
  source = "../../modules/budget"
  count  = var.billing_account == null ? 0 : 1

  billing_account       = var.billing_account
  name                  = local.name
  project_number        = data.google_project.this.number
  monthly_amount        = local.monthly_budget
  currency              = var.currency
  notification_channels = module.monitoring.notification_channels
}
