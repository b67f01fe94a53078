# Policies for clusters with runtime="yarn": Dataproc looks at YARN's memory alone. The others resize themselves, from
# Dask's own demand.

resource "google_dataproc_autoscaling_policy" "this" {
  for_each = var.policies

  project   = var.project_id
  location  = var.region
  policy_id = each.key

  worker_config {
    min_instances = each.value.workers.min
    max_instances = each.value.workers.max
  }

  secondary_worker_config {
    min_instances = each.value.secondary_workers.min
    max_instances = each.value.secondary_workers.max
  }

  basic_algorithm {
    cooldown_period = each.value.cooldown

    yarn_config {
      graceful_decommission_timeout  = each.value.graceful_timeout
      scale_up_factor                = each.value.scale_up
      scale_up_min_worker_fraction   = each.value.scale_up_min_fraction
      scale_down_factor              = each.value.scale_down
      scale_down_min_worker_fraction = each.value.scale_down_min_fraction
    }
  }
}
