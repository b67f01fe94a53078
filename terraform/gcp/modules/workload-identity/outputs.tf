output "provider" {
  description = "For google-github-actions/auth: workload_identity_provider."
  value       = google_iam_workload_identity_pool_provider.github.name
}

output "service_account" {
  description = "For google-github-actions/auth: service_account."
  value       = google_service_account.pipeline.email
}
