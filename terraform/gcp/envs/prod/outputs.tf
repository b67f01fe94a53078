output "composer_environment_name" {
  value = module.composer.name
}

output "composer_dag_gcs_prefix" {
  description = "Where DAGs belong. It ends with /dags: gcloud storage cp dags/*.py \"$(terraform output -raw composer_dag_gcs_prefix)/\""
  value       = module.composer.dag_gcs_prefix
}

output "airflow_uri" {
  value = module.composer.airflow_uri
}

output "dataproc_staging_bucket" {
  description = "Job scripts belong below jobs/ of it."
  value       = google_storage_bucket.dataproc_staging.name
}

output "dataproc_temp_bucket" {
  description = "For DataprocCluster(temp_bucket=…)."
  value       = module.storage.temporary_bucket
}

output "dataproc_kms_key" {
  description = "For DataprocCluster(kms_key=…)."
  value       = module.kms.keys["dataproc"]
}

output "dataproc_autoscaling_policies" {
  description = "For DataprocCluster(autoscaling_policy=…)."
  value       = module.dataproc_autoscaling.ids
}

output "dataproc_runtime_sa_email" {
  value = module.phase2_service_accounts.runtime_email
}

output "subnetwork_services_uri" {
  value = module.network.services_subnetwork
}

output "filestore_ip_address" {
  value = module.filestore.ip_address
}

output "wheel_upload_url" {
  description = "Where the wheel of airflow-provider-dask is uploaded to."
  value       = module.artifact_registry.upload_url
}

output "workload_identity_provider" {
  description = "For google-github-actions/auth."
  value       = module.workload_identity.provider
}

output "pipeline_service_account" {
  description = "For google-github-actions/auth."
  value       = module.workload_identity.service_account
}
