# What each module does with what it is given.

mock_provider "google" {
  override_during = plan

  mock_resource "google_monitoring_notification_channel" {
    defaults = { name = "projects/acme/notificationChannels/1" }
  }
  mock_resource "google_iam_workload_identity_pool" {
    defaults = { name = "projects/123456789012/locations/global/workloadIdentityPools/dask" }
  }
}

variables {
  project_id = "acme"
  region     = "europe-west1"
  location   = "europe-west1"
  zone       = "europe-west1-b"
  name       = "dask-dev"
  labels     = {}
  kms_key    = "projects/acme/locations/europe-west1/keyRings/dask/cryptoKeys/key"
}

run "composer" {
  command = plan
  module {
    source = "../../modules/composer"
  }

  variables {
    bucket            = "acme-composer"
    network           = "projects/acme/global/networks/dask"
    subnetwork        = "projects/acme/regions/europe-west1/subnetworks/management"
    service_account   = "composer@acme.iam.gserviceaccount.com"
    image_version     = "composer-3-airflow-2.11.1-build.1"
    provider_version  = "0.4.0"
    package_index     = "https://index.acme.example/simple/"
    extra_packages    = { dask-ml = "==2025.1.0" }
    airflow_variables = { gcp_region = "europe-west1" }
    instance          = "acme-dev"
    staging           = "gs://acme-staging/dask/"
    size              = "ENVIRONMENT_SIZE_SMALL"
    workers           = { min = 1, max = 3 }
    high_resilience   = false
    snapshots         = false
    ui_ranges         = { office = "192.0.2.0/24" }
  }

  assert {
    condition     = google_composer_environment.this.config[0].enable_private_environment && google_composer_environment.this.config[0].enable_private_builds_only
    error_message = "Composer has a public address"
  }
  assert {
    condition     = google_composer_environment.this.config[0].encryption_config[0].kms_key_name == var.kms_key
    error_message = "Composer is not encrypted with our key"
  }
  assert {
    condition     = google_composer_environment.this.config[0].node_config[0].service_account == var.service_account
    error_message = "Composer runs as another account"
  }
  assert {
    condition = google_composer_environment.this.config[0].software_config[0].pypi_packages == tomap({
      airflow-provider-dask = "[dataproc,gcs]==0.4.0"
      dask-ml               = "==2025.1.0"
    })
    error_message = "other packages are installed"
  }
  assert {
    condition     = google_composer_environment.this.config[0].software_config[0].env_variables == tomap({ AIRFLOW_VAR_GCP_REGION = "europe-west1" })
    error_message = "other Airflow variables are set"
  }
  assert {
    condition     = google_composer_environment.this.config[0].software_config[0].airflow_config_overrides["dask-instance"] == "acme-dev"
    error_message = "[dask] instance is not set"
  }
  assert {
    condition     = strcontains(google_storage_bucket_object.pip.content, "index-url = https://index.acme.example/simple/\n") && google_storage_bucket_object.pip.bucket == google_composer_environment.this.storage_config[0].bucket
    error_message = "pip of this environment does not know the index"
  }
  assert {
    condition     = [for range in google_composer_environment.this.config[0].web_server_network_access_control[0].allowed_ip_range : range.value] == ["192.0.2.0/24"]
    error_message = "others reach the UI"
  }
  assert {
    condition     = google_composer_environment.this.config[0].workloads_config[0].triggerer[0].count == 1
    error_message = "nothing can be deferred without a triggerer"
  }
}

run "composer_in_two_zones" {
  command = plan
  module {
    source = "../../modules/composer"
  }

  variables {
    bucket            = "acme-composer"
    network           = "projects/acme/global/networks/dask"
    subnetwork        = "projects/acme/regions/europe-west1/subnetworks/management"
    service_account   = "composer@acme.iam.gserviceaccount.com"
    image_version     = "composer-3-airflow-3"
    provider_version  = "0.4.0"
    package_index     = "https://index.acme.example/simple/"
    airflow_variables = {}
    instance          = "acme-prod"
    staging           = "gs://acme-staging/dask/"
    size              = "ENVIRONMENT_SIZE_MEDIUM"
    workers           = { min = 2, max = 6 }
    high_resilience   = true
    snapshots         = true
    ui_ranges         = {}
  }

  assert {
    condition     = google_composer_environment.this.config[0].resilience_mode == "HIGH_RESILIENCE" && google_composer_environment.this.config[0].workloads_config[0].triggerer[0].count == 2
    error_message = "it does not survive a zone"
  }
  assert {
    condition     = google_composer_environment.this.config[0].recovery_config[0].scheduled_snapshots_config[0].snapshot_location == "gs://acme-composer/snapshots"
    error_message = "snapshots are elsewhere"
  }
  assert {
    condition     = length(google_composer_environment.this.config[0].web_server_network_access_control) == 0
    error_message = "a list of no addresses keeps everybody out"
  }
}

run "composer_refuses" {
  command = plan
  module {
    source = "../../modules/composer"
  }

  variables {
    bucket            = "acme-composer"
    network           = "projects/acme/global/networks/dask"
    subnetwork        = "projects/acme/regions/europe-west1/subnetworks/management"
    service_account   = "composer@acme.iam.gserviceaccount.com"
    image_version     = "composer-3-airflow-2.10.5-build.15"
    provider_version  = ">=0.4"
    package_index     = "https://index.acme.example/simple/"
    airflow_variables = {}
    instance          = "default"
    staging           = "gs://acme-staging/dask/"
    size              = "SMALL"
    workers           = { min = 1, max = 3 }
    high_resilience   = false
    snapshots         = false
    ui_ranges         = {}
  }

  expect_failures = [var.image_version, var.provider_version, var.instance, var.size]
}

run "network" {
  command = plan
  module {
    source = "../../modules/network"
  }

  variables {
    management_range     = "10.20.0.0/24"
    services_range       = "10.20.4.0/22"
    node_service_account = "runtime@acme.iam.gserviceaccount.com"
  }

  assert {
    condition     = toset(keys(google_compute_subnetwork.this)) == toset(["management", "services"]) && alltrue([for subnet in google_compute_subnetwork.this : subnet.private_ip_google_access])
    error_message = "nodes without a public address do not reach Google"
  }
  assert {
    condition     = !google_compute_network.this.auto_create_subnetworks
    error_message = "a subnet in every region"
  }
  assert {
    condition = (
      google_compute_firewall.nodes.source_service_accounts == toset([var.node_service_account])
      && google_compute_firewall.nodes.target_service_accounts == toset([var.node_service_account])
      && length(coalesce(google_compute_firewall.nodes.source_tags, [])) == 0
      && length(coalesce(google_compute_firewall.nodes.source_ranges, [])) == 0
    )
    error_message = "others than cluster nodes reach cluster nodes"
  }
  assert {
    condition     = toset([for rule in google_compute_firewall.nodes.allow : rule.protocol]) == toset(["tcp", "udp", "icmp"])
    error_message = "Dataproc needs every protocol among its nodes"
  }
}

run "service_accounts" {
  command = plan
  module {
    source = "../../modules/service-accounts"
  }

  # A job may do nothing in a bucket, or with a cluster, by a right that holds for the whole project.
  assert {
    condition = alltrue([
      for permission in google_project_iam_custom_role.node.permissions :
      can(regex("^(dataproc\\.(agents|tasks)|logging\\.logEntries|monitoring)\\.", permission))
    ])
    error_message = "nodes may do more than report"
  }
  assert {
    condition     = google_project_iam_custom_role.elastic.permissions == toset(["dataproc.clusters.get", "dataproc.clusters.repair", "dataproc.clusters.update", "dataproc.operations.get"])
    error_message = "nodes may do more with clusters than resize them"
  }
  assert {
    condition = alltrue([
      for permission in google_project_iam_custom_role.airflow.permissions :
      can(regex("^dataproc\\.(autoscalingPolicies|clusters|jobs|operations)\\.(create|get|list|update|delete|use|cancel)$|^(compute|file|resourcemanager|serviceusage)\\..*\\.(get|list)$", permission))
    ])
    error_message = "Airflow may do more than make and end clusters and jobs, and look at what they need"
  }
}

run "kms" {
  command = plan
  module {
    source = "../../modules/kms"
  }

  variables {
    agents = {
      composer = { composer = "composer@agents.example", storage = "storage@agents.example" }
      dataproc = { compute = "compute@agents.example" }
    }
    readers = { dataproc = "airflow@accounts.example" }
  }

  assert {
    condition = { for name, grant in google_kms_crypto_key_iam_member.agents : name => grant.member } == {
      "composer/composer" = "serviceAccount:composer@agents.example"
      "composer/storage"  = "serviceAccount:storage@agents.example"
      "dataproc/compute"  = "serviceAccount:compute@agents.example"
    }
    error_message = "a key can be used by others"
  }
  assert {
    condition = { for name, grant in google_kms_crypto_key_iam_member.readers : name => grant.member } == {
      "dataproc" = "serviceAccount:airflow@accounts.example"
    }
    error_message = "others than Airflow look at a key"
  }
  assert {
    condition     = alltrue([for key in google_kms_crypto_key.this : key.rotation_period == "7776000s"])
    error_message = "a key is not changed every 90 days"
  }
}

run "monitoring" {
  command = plan
  module {
    source = "../../modules/monitoring"
  }

  variables {
    emails             = ["data-platform@acme.example", "on-call@acme.example"]
    max_lifetime_hours = 25
    max_cpus           = 64
  }

  assert {
    condition = (
      google_monitoring_alert_policy.this["old_cluster"].conditions[0].condition_threshold[0].threshold_value == 90000
      && google_monitoring_alert_policy.this["old_cluster"].conditions[0].condition_threshold[0].comparison == "COMPARISON_GT"
      && strcontains(google_monitoring_alert_policy.this["old_cluster"].conditions[0].condition_threshold[0].filter, "instance/uptime_total")
      && strcontains(google_monitoring_alert_policy.this["old_cluster"].conditions[0].condition_threshold[0].filter, "goog-dataproc-cluster-name")
    )
    error_message = "nobody hears of a cluster older than its lifetime"
  }
  assert {
    condition     = google_monitoring_alert_policy.this["failed_jobs"].conditions[0].condition_threshold[0].threshold_value == 0 && strcontains(google_monitoring_alert_policy.this["failed_jobs"].conditions[0].condition_threshold[0].filter, "cluster/job/failed_count")
    error_message = "nobody hears of a failed job"
  }
  assert {
    condition     = google_monitoring_alert_policy.this["cost"].conditions[0].condition_threshold[0].threshold_value == 64 && strcontains(google_monitoring_alert_policy.this["cost"].conditions[0].condition_threshold[0].filter, "reserved_cores")
    error_message = "nobody hears of too many machines"
  }
  assert {
    condition     = alltrue([for alert in google_monitoring_alert_policy.this : length(alert.notification_channels) == 2 && alert.enabled != false])
    error_message = "an alert that nobody gets is none"
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == 5
    error_message = "charts are missing"
  }
}

run "monitoring_refuses" {
  command = plan
  module {
    source = "../../modules/monitoring"
  }

  variables {
    emails             = []
    max_lifetime_hours = 400
    max_cpus           = 0
  }

  expect_failures = [var.emails, var.max_lifetime_hours, var.max_cpus]
}

run "budget" {
  command = plan
  module {
    source = "../../modules/budget"
  }

  variables {
    billing_account       = "012345-6789AB-CDEF01"
    project_number        = "123456789012"
    monthly_amount        = 1000
    currency              = "EUR"
    notification_channels = ["projects/acme/notificationChannels/1"]
  }

  assert {
    condition     = toset([for rule in google_billing_budget.this.threshold_rules : "${rule.spend_basis} ${rule.threshold_percent}"]) == toset(["CURRENT_SPEND 0.5", "CURRENT_SPEND 0.8", "CURRENT_SPEND 1", "FORECASTED_SPEND 1"])
    error_message = "other thresholds"
  }
  assert {
    condition     = google_billing_budget.this.budget_filter[0].projects == toset(["projects/123456789012"]) && google_billing_budget.this.amount[0].specified_amount[0].units == "1000"
    error_message = "another project's money"
  }
}

run "budget_refuses" {
  command = plan
  module {
    source = "../../modules/budget"
  }

  variables {
    billing_account       = "my-account"
    project_number        = "123456789012"
    monthly_amount        = 0.5
    currency              = "EUR"
    notification_channels = ["1", "2", "3", "4", "5", "6"]
  }

  expect_failures = [var.billing_account, var.monthly_amount, var.notification_channels]
}

run "workload_identity" {
  command = plan
  module {
    source = "../../modules/workload-identity"
  }

  variables {
    repository          = "acme/pipelines"
    repository_owner_id = "1234567"
    refs                = ["refs/heads/main"]
    wheel_repository    = "wheels"
    uploads             = { jobs = { bucket = "acme-staging", prefix = "jobs/" } }
  }

  assert {
    condition     = google_iam_workload_identity_pool_provider.github.attribute_condition == "assertion.repository == 'acme/pipelines' && assertion.repository_owner_id == '1234567' && assertion.ref in ['refs/heads/main']"
    error_message = "other pipelines may act"
  }
  assert {
    condition     = endswith(google_service_account_iam_member.pipeline.member, "/attribute.repository/acme/pipelines")
    error_message = "other pipelines may act"
  }
  assert {
    condition     = google_storage_bucket_iam_member.objects["jobs"].condition[0].expression == "resource.name.startsWith(\"projects/_/buckets/acme-staging/objects/jobs/\")"
    error_message = "a pipeline writes elsewhere"
  }
}

run "workload_identity_refuses" {
  command = plan
  module {
    source = "../../modules/workload-identity"
  }

  variables {
    repository          = "pipelines"
    repository_owner_id = "acme"
    refs                = ["refs/heads/*"]
    wheel_repository    = "wheels"
    uploads             = { all = { bucket = "acme-staging", prefix = "" } }
  }

  expect_failures = [var.repository, var.repository_owner_id, var.refs, var.uploads]
}

run "autoscaling" {
  command = plan
  module {
    source = "../../modules/dataproc-autoscaling"
  }

  variables {
    policies = { dask-autoscale-policy = { workers = { min = 2, max = 10 }, secondary_workers = { min = 0, max = 5 } } }
  }

  assert {
    condition     = google_dataproc_autoscaling_policy.this["dask-autoscale-policy"].worker_config[0].max_instances == 10 && google_dataproc_autoscaling_policy.this["dask-autoscale-policy"].secondary_worker_config[0].max_instances == 5
    error_message = "other numbers of workers"
  }
  assert {
    condition = (
      google_dataproc_autoscaling_policy.this["dask-autoscale-policy"].basic_algorithm[0].yarn_config[0].graceful_decommission_timeout == "120s"
      && google_dataproc_autoscaling_policy.this["dask-autoscale-policy"].basic_algorithm[0].yarn_config[0].scale_up_factor == 1
      && google_dataproc_autoscaling_policy.this["dask-autoscale-policy"].basic_algorithm[0].yarn_config[0].scale_down_factor == 0.5
    )
    error_message = "other defaults"
  }
}

run "autoscaling_refuses_a_single_worker" {
  command = plan
  module {
    source = "../../modules/dataproc-autoscaling"
  }
  variables {
    policies = { one-worker = { workers = { min = 1, max = 10 } } }
  }
  expect_failures = [var.policies]
}

run "autoscaling_refuses_a_short_cooldown" {
  command = plan
  module {
    source = "../../modules/dataproc-autoscaling"
  }
  variables {
    policies = { restless = { workers = { min = 2, max = 10 }, cooldown = "60s", graceful_timeout = "60s" } }
  }
  expect_failures = [var.policies]
}

run "autoscaling_refuses_minutes" {
  command = plan
  module {
    source = "../../modules/dataproc-autoscaling"
  }
  variables {
    policies = { minutes = { workers = { min = 2, max = 10 }, graceful_timeout = "10m" } }
  }
  expect_failures = [var.policies]
}

run "filestore" {
  command = plan
  module {
    source = "../../modules/filestore"
  }

  variables {
    network             = "projects/acme/global/networks/dask"
    client_range        = "10.20.4.0/22"
    capacity_gb         = 1024
    deletion_protection = true
  }

  assert {
    condition     = google_filestore_instance.this.file_shares[0].name == "export" && google_filestore_instance.this.file_shares[0].nfs_export_options[0].ip_ranges == tolist(["10.20.4.0/22"])
    error_message = "others than cluster nodes mount it, or elsewhere"
  }
  assert {
    condition     = google_filestore_instance.this.deletion_protection_enabled && google_filestore_instance.this.kms_key_name == var.kms_key
    error_message = "files are not protected"
  }
}
