# A network without any public address: Composer in one subnet, cluster nodes in the other.

resource "google_compute_network" "this" {
  project                 = var.project_id
  name                    = var.name
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "this" {
  for_each = { management = var.management_range, services = var.services_range }

  project       = var.project_id
  name          = "${var.name}-${each.key}"
  network       = google_compute_network.this.id
  region        = var.region
  ip_cidr_range = each.value

  # Nodes have internal addresses only: this is their way to Cloud Storage, Dataproc and Logging.
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

resource "google_compute_router" "this" {
  project = var.project_id
  name    = var.name
  network = google_compute_network.this.id
  region  = var.region
}

# Nodes fetch packages through it. It lets nobody in.
resource "google_compute_router_nat" "this" {
  project                            = var.project_id
  name                               = var.name
  router                             = google_compute_router.this.name
  region                             = var.region
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  dynamic "subnetwork" {
    for_each = google_compute_subnetwork.this
    content {
      name                    = subnetwork.value.id
      source_ip_ranges_to_nat = ["PRIMARY_IP_RANGE"]
    }
  }

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}

# Whoever reaches a Dask scheduler can run code on its workers, so only cluster nodes reach cluster nodes. Accounts, not
# tags: a tag can be put on a machine by anyone who may change it.
resource "google_compute_firewall" "nodes" {
  project                 = var.project_id
  name                    = "${var.name}-nodes"
  description             = "Dataproc and Dask: every port, among cluster nodes only."
  network                 = google_compute_network.this.id
  direction               = "INGRESS"
  source_service_accounts = [var.node_service_account]
  target_service_accounts = [var.node_service_account]

  allow {
    protocol = "tcp"
  }
  allow {
    protocol = "udp"
  }
  allow {
    protocol = "icmp"
  }
}
