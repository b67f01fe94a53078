# A file system that all nodes of a cluster can mount: DataprocCluster(nfs={"server": …, "export": "/export", …}).

resource "google_filestore_instance" "this" {
  project                     = var.project_id
  name                        = var.name
  location                    = var.zone
  tier                        = "ZONAL" # the basic ones cannot be encrypted with a key of one's own
  kms_key_name                = var.kms_key
  labels                      = var.labels
  deletion_protection_enabled = var.deletion_protection
  deletion_protection_reason  = var.deletion_protection ? "files of jobs" : null

  file_shares {
    name        = "export"
    capacity_gb = var.capacity_gb

    # Services of a node run as root and make the folders of jobs, so root must stay root here.
    nfs_export_options {
      ip_ranges   = [var.client_range]
      access_mode = "READ_WRITE"
      squash_mode = "NO_ROOT_SQUASH"
    }
  }

  networks {
    network      = var.network
    modes        = ["MODE_IPV4"]
    connect_mode = "DIRECT_PEERING"
  }
}
