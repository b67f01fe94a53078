# Two accounts without keys: as which Airflow acts, and as which cluster nodes run. Their rights in buckets are given on
# the buckets (module storage), not here: here a right holds for the whole project.

resource "google_service_account" "composer" {
  project      = var.project_id
  account_id   = "${var.name}-composer"
  display_name = "Airflow (Composer)"
}

resource "google_service_account" "runtime" {
  project      = var.project_id
  account_id   = "${var.name}-dataproc"
  display_name = "Nodes of Dask clusters (Dataproc)"
}

# What Airflow does with clusters and jobs, right by right: tests/terraform/test_rights.py compares this list with the
# requests of the hooks. Google's role Dataproc Editor has batches, sessions and workflow templates as well.
resource "google_project_iam_custom_role" "airflow" {
  project     = var.project_id
  role_id     = "${replace(var.name, "-", "_")}_airflow"
  title       = "Dask clusters for Airflow"
  description = "Make, watch and delete Dataproc clusters and their jobs, and look at what they need."
  permissions = [
    "dataproc.autoscalingPolicies.create",
    "dataproc.autoscalingPolicies.delete",
    "dataproc.autoscalingPolicies.get",
    "dataproc.autoscalingPolicies.update",
    "dataproc.autoscalingPolicies.use",
    "dataproc.clusters.create",
    "dataproc.clusters.delete",
    "dataproc.clusters.get",
    "dataproc.clusters.list",
    "dataproc.clusters.update",
    "dataproc.clusters.use",
    "dataproc.jobs.cancel",
    "dataproc.jobs.create",
    "dataproc.jobs.delete",
    "dataproc.jobs.get",
    "dataproc.jobs.list",
    "dataproc.jobs.update",
    "dataproc.operations.get",
    # What `airflow-dask preflight dataproc` reads. The key's rights are given on the key (module kms).
    "compute.machineTypes.get",
    "compute.projects.get",
    "compute.regions.get",
    "compute.subnetworks.get",
    "file.instances.list",
    "resourcemanager.projects.get",
    "serviceusage.services.get",
  ]
}

# What an agent of Dataproc does on a node. Google's role Dataproc Worker also reads and writes every bucket of the
# project, and any job could do so then.
resource "google_project_iam_custom_role" "node" {
  project     = var.project_id
  role_id     = "${replace(var.name, "-", "_")}_node"
  title       = "Nodes of Dask clusters"
  description = "What Dataproc Worker allows, without its rights in Cloud Storage."
  permissions = [
    "dataproc.agents.create",
    "dataproc.agents.delete",
    "dataproc.agents.get",
    "dataproc.agents.list",
    "dataproc.agents.update",
    "dataproc.tasks.lease",
    "dataproc.tasks.listInvalidatedLeases",
    "dataproc.tasks.reportStatus",
    "logging.logEntries.create",
    "logging.logEntries.route",
    "monitoring.metricDescriptors.create",
    "monitoring.metricDescriptors.get",
    "monitoring.metricDescriptors.list",
    "monitoring.monitoredResourceDescriptors.get",
    "monitoring.monitoredResourceDescriptors.list",
    "monitoring.timeSeries.create",
  ]
}

# What the master of an elastic cluster does: it asks for more workers, and for the end of those with nothing to do. There
# is no such right for one cluster alone: a job can resize every cluster of the project, though delete none.
resource "google_project_iam_custom_role" "elastic" {
  project     = var.project_id
  role_id     = "${replace(var.name, "-", "_")}_elastic"
  title       = "Elastic Dask clusters"
  description = "Look at Dataproc clusters and resize them."
  permissions = [
    "dataproc.clusters.get",
    "dataproc.clusters.repair",
    "dataproc.clusters.update",
    "dataproc.operations.get",
  ]
}

# The least that Google lets an account of Composer have.
resource "google_project_iam_member" "composer_worker" {
  #checkov:skip=CKV_GCP_49:Composer refuses an account without this role
  project = var.project_id
  role    = "roles/composer.worker"
  member  = "serviceAccount:${google_service_account.composer.email}"
}

resource "google_project_iam_member" "composer_airflow" {
  project = var.project_id
  role    = google_project_iam_custom_role.airflow.id
  member  = "serviceAccount:${google_service_account.composer.email}"
}

resource "google_project_iam_member" "runtime_node" {
  project = var.project_id
  role    = google_project_iam_custom_role.node.id
  member  = "serviceAccount:${google_service_account.runtime.email}"
}

resource "google_project_iam_member" "runtime_elastic" {
  project = var.project_id
  role    = google_project_iam_custom_role.elastic.id
  member  = "serviceAccount:${google_service_account.runtime.email}"
}

# Airflow may start machines as this account, and as no other of the project.
resource "google_service_account_iam_member" "composer_uses_runtime" {
  service_account_id = google_service_account.runtime.name
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${google_service_account.composer.email}"
}
