output "composer_email" {
  description = "As which Airflow acts."
  value       = google_service_account.composer.email
  depends_on = [
    google_project_iam_member.composer_worker,
    google_project_iam_member.composer_airflow,
    google_service_account_iam_member.composer_uses_runtime,
  ]
}

output "runtime_email" {
  description = "As which cluster nodes run: the Airflow variable dataproc_runtime_sa_email."
  value       = google_service_account.runtime.email
  depends_on  = [google_project_iam_member.runtime_node, google_project_iam_member.runtime_elastic]
}
