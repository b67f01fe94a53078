# All in which dev and prod differ.

locals {
  environment = "dev"

  # Filestore refuses to be deleted.
  deletion_protection = false

  composer = {
    size            = "ENVIRONMENT_SIZE_SMALL"
    workers         = { min = 1, max = 3 }
    high_resilience = false
    snapshots       = false
  }

  filestore_gb = 1024

  # The longest max_lifetime of the DAGs (24 h, unless they say otherwise) and an hour for deleting.
  max_lifetime_hours = 25
  max_cpus           = 64
  monthly_budget     = 1000

  # Which pipelines of the repository may upload.
  refs = ["refs/heads/main", "refs/heads/develop"]

  policies = {
    dask-autoscale-policy = {
      workers           = { min = 2, max = 5 }
      secondary_workers = { min = 0, max = 5 }
    }
  }
}
