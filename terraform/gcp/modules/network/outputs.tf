output "network" {
  description = "Id of the network."
  value       = google_compute_network.this.id
}

output "management_subnetwork" {
  description = "Id of Composer's subnet."
  value       = google_compute_subnetwork.this["management"].id
}

output "services_range" {
  description = "Addresses of cluster nodes."
  value       = google_compute_subnetwork.this["services"].ip_cidr_range
}

output "services_subnetwork" {
  description = "Id of the subnet of cluster nodes: the Airflow variable subnetwork_services_uri."
  value       = google_compute_subnetwork.this["services"].id
}
