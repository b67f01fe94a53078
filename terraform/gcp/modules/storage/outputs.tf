output "temporary_bucket" {
  description = "Name of the bucket for DataprocCluster(temp_bucket=…)."
  value       = google_storage_bucket.temporary.name
}
