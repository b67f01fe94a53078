# Airflow: Composer 3 without public addresses, encrypted with our key, with our package and the variables of our DAGs.

# Our own, so that it is encrypted with our key and pip is set up before the first package is installed.
resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_62:access is in the audit logs of Cloud Storage, which need no bucket of their own
  project                     = var.project_id
  name                        = var.bucket
  location                    = var.region
  labels                      = var.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  encryption {
    default_kms_key_name = var.kms_key
  }

  versioning {
    enabled = true
  }

  # DAGs, logs and the snapshots of Airflow's database lie here.
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_storage_bucket_iam_member" "environment" {
  bucket = google_storage_bucket.this.name
  role   = "roles/storage.objectAdmin"
  member = "serviceAccount:${var.service_account}"
}

resource "google_storage_bucket_object" "pip" {
  bucket       = google_storage_bucket.this.name
  name         = "config/pip/pip.conf"
  content_type = "text/plain"
  content      = <<-CONF
    [global]
    index-url = ${var.package_index}
  CONF
}

resource "google_composer_environment" "this" {
  project = var.project_id
  name    = var.name
  region  = var.region
  labels  = var.labels

  storage_config {
    bucket = google_storage_bucket.this.name
  }

  config {
    environment_size           = var.size
    resilience_mode            = var.high_resilience ? "HIGH_RESILIENCE" : "STANDARD_RESILIENCE"
    enable_private_environment = true
    enable_private_builds_only = true

    node_config {
      network         = var.network
      subnetwork      = var.subnetwork
      service_account = var.service_account
    }

    encryption_config {
      kms_key_name = var.kms_key
    }

    software_config {
      image_version = var.image_version
      pypi_packages = merge(
        { "airflow-provider-dask" = "[dataproc,gcs]==${var.provider_version}" },
        var.extra_packages,
      )
      env_variables = { for name, value in var.airflow_variables : "AIRFLOW_VAR_${upper(name)}" => value }
      airflow_config_overrides = merge(
        {
          "dask-instance" = var.instance
          "dask-staging"  = var.staging
          # A task that waits for a cluster or a job needs no worker then.
          "operators-default_deferrable" = "True"
        },
        var.extra_configuration,
      )
    }

    workloads_config {
      scheduler {
        count      = var.high_resilience ? 2 : 1
        cpu        = 1
        memory_gb  = 2
        storage_gb = 1
      }
      dag_processor {
        count      = var.high_resilience ? 2 : 1
        cpu        = 1
        memory_gb  = 2
        storage_gb = 1
      }
      triggerer {
        count     = var.high_resilience ? 2 : 1
        cpu       = 0.5
        memory_gb = 1
      }
      web_server {
        cpu        = 1
        memory_gb  = 2
        storage_gb = 1
      }
      worker {
        cpu        = 1
        memory_gb  = 4
        storage_gb = 5
        min_count  = var.workers.min
        max_count  = var.workers.max
      }
    }

    # Without a block everybody reaches the login page, and Google's IAM decides who gets in.
    dynamic "web_server_network_access_control" {
      for_each = length(var.ui_ranges) > 0 ? [var.ui_ranges] : []
      content {
        dynamic "allowed_ip_range" {
          for_each = web_server_network_access_control.value
          content {
            value       = allowed_ip_range.value
            description = allowed_ip_range.key
          }
        }
      }
    }

    recovery_config {
      scheduled_snapshots_config {
        enabled                    = var.snapshots
        snapshot_location          = var.snapshots ? "gs://${google_storage_bucket.this.name}/snapshots" : null
        snapshot_creation_schedule = var.snapshots ? "0 4 * * *" : null
        time_zone                  = var.snapshots ? "UTC+00" : null
      }
    }
  }

  depends_on = [google_storage_bucket_iam_member.environment, google_storage_bucket_object.pip]
}
