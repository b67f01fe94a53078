output "ip_address" {
  description = "The Airflow variable filestore_ip_address."
  value       = google_filestore_instance.this.networks[0].ip_addresses[0]
}

output "export" {
  description = "Path that can be mounted."
  value       = "/${google_filestore_instance.this.file_shares[0].name}"
}
