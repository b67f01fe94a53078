# Who hears of it, and when: a cluster that should be gone, jobs that fail, machines that cost too much.

resource "google_monitoring_notification_channel" "email" {
  for_each = var.emails

  project      = var.project_id
  display_name = each.key
  type         = "email"
  labels       = { email_address = each.key }
}

locals {
  channels = sort([for channel in google_monitoring_notification_channel.email : channel.name])

  # Dataproc labels each machine with the name of its cluster. Whoever made the cluster: it costs money.
  node    = "resource.type = \"gce_instance\" AND metadata.user_labels.\"goog-dataproc-cluster-name\" = monitoring.regex.full_match(\".+\")"
  cluster = "resource.type = \"cloud_dataproc_cluster\""

  metrics = {
    age     = "metric.type = \"compute.googleapis.com/instance/uptime_total\" AND ${local.node}"
    cpus    = "metric.type = \"compute.googleapis.com/instance/cpu/reserved_cores\" AND ${local.node}"
    failed  = "metric.type = \"dataproc.googleapis.com/cluster/job/failed_count\" AND ${local.cluster}"
    started = "metric.type = \"dataproc.googleapis.com/cluster/job/submitted_count\" AND ${local.cluster}"
    refused = "metric.type = \"dataproc.googleapis.com/cluster/operation/failed_count\" AND ${local.cluster}"
  }
  by_cluster = {
    node    = "metadata.user_labels.\"goog-dataproc-cluster-name\""
    cluster = "resource.label.\"cluster_name\""
  }

  alerts = {
    old_cluster = {
      name      = "Dataproc cluster older than its lifetime"
      severity  = "CRITICAL"
      metric    = local.metrics.age
      group     = local.by_cluster.node
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = var.max_lifetime_hours * 3600
      duration  = "0s"
      text      = <<-TEXT
        A machine of a Dataproc cluster runs for more than ${var.max_lifetime_hours} h. Dataproc should have deleted the
        cluster by then, and Airflow before. It costs money until it is gone:

        `gcloud dataproc clusters delete CLUSTER --project=${var.project_id} --region=${var.region}`
      TEXT
    }
    failed_jobs = {
      name      = "Dataproc job failed"
      severity  = "ERROR"
      metric    = local.metrics.failed
      group     = local.by_cluster.cluster
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      duration  = "0s"
      text      = "The end of the job's log and its exit reason are in the log of the Airflow task that ran it."
    }
    failed_operations = {
      name      = "Dataproc could not make or delete a cluster"
      severity  = "ERROR"
      metric    = local.metrics.refused
      group     = local.by_cluster.cluster
      aligner   = "ALIGN_DELTA"
      reducer   = "REDUCE_SUM"
      threshold = 0
      duration  = "0s"
      text      = "The cause is in the log of the Airflow task: quota, no machines in the zone, a script that failed, a missing right."
    }
    cost = {
      name      = "Dask clusters are larger than planned"
      severity  = "WARNING"
      metric    = local.metrics.cpus
      group     = null
      aligner   = "ALIGN_MEAN"
      reducer   = "REDUCE_SUM"
      threshold = var.max_cpus
      duration  = "900s"
      text      = "For 15 minutes, all clusters together have had more than ${var.max_cpus} virtual CPUs. The budget tells of it hours later."
    }
  }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  project               = var.project_id
  display_name          = "${var.name}: ${each.value.name}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = local.channels

  conditions {
    display_name = each.value.name

    condition_threshold {
      filter          = each.value.metric
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = each.value.duration

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.reducer
        group_by_fields      = each.value.group == null ? [] : [each.value.group]
      }
    }
  }

  documentation {
    content   = each.value.text
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "1800s"
  }
}

locals {
  charts = [
    { title = "Age of each cluster (s)", metric = local.metrics.age, aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", group = local.by_cluster.node },
    { title = "Virtual CPUs of each cluster", metric = local.metrics.cpus, aligner = "ALIGN_MEAN", reducer = "REDUCE_SUM", group = local.by_cluster.node },
    { title = "Jobs started", metric = local.metrics.started, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", group = local.by_cluster.cluster },
    { title = "Jobs failed", metric = local.metrics.failed, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", group = local.by_cluster.cluster },
    { title = "Clusters that could not be made or deleted", metric = local.metrics.refused, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", group = local.by_cluster.cluster },
  ]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project_id
  dashboard_json = jsonencode({
    displayName = "${var.name}: Dask clusters"
    mosaicLayout = {
      columns = 12
      tiles = [
        for number, chart in local.charts : {
          xPos   = 6 * (number % 2)
          yPos   = 4 * floor(number / 2)
          width  = 6
          height = 4
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = chart.metric
                    aggregation = {
                      alignmentPeriod    = "300s"
                      perSeriesAligner   = chart.aligner
                      crossSeriesReducer = chart.reducer
                      groupByFields      = [chart.group]
                    }
                  }
                }
              }]
            }
          }
        }
      ]
    }
  })
}
