output "name" {
  description = "Name of the environment."
  value       = google_composer_environment.this.name
}

output "dag_gcs_prefix" {
  description = "Where DAGs belong. It ends with /dags, without a slash."
  value       = google_composer_environment.this.config[0].dag_gcs_prefix
}

output "airflow_uri" {
  description = "Airflow's UI."
  value       = google_composer_environment.this.config[0].airflow_uri
}

output "bucket" {
  description = "Name of its bucket."
  value       = google_storage_bucket.this.name
}
