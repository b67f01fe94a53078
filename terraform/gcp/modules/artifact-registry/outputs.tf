output "wheel_repository" {
  description = "Id of the repository that wheels are uploaded to."
  value       = google_artifact_registry_repository.wheels.repository_id
}

output "upload_url" {
  description = "Where wheels are uploaded to."
  value       = "https://${var.location}-python.pkg.dev/${var.project_id}/${google_artifact_registry_repository.wheels.repository_id}/"
}

output "index_url" {
  description = "The package index."
  value       = "https://${var.location}-python.pkg.dev/${var.project_id}/${google_artifact_registry_repository.python.repository_id}/simple/"
  depends_on  = [google_artifact_registry_repository_iam_member.readers]
}
