# All in which dev and prod differ.

locals {
  environment = "prod"

  # Filestore refuses to be deleted.
  deletion_protection = true

  composer = {
    size            = "ENVIRONMENT_SIZE_MEDIUM"
    workers         = { min = 2, max = 6 }
    high_resilience = true
    snapshots       = true
  }

  filestore_gb = 2560

  # The longest max_lifetime of the DAGs (24 h, unless they say otherwise) and an hour for deleting.
  max_lifetime_hours = 25
  max_cpus           = 256
  monthly_budget     = 5000

  # Which pipelines of the repository may upload.
  refs = ["refs/heads/main"]

  policies = {
    dask-autoscale-policy = {
      workers           = { min = 2, max = 10 }
      secondary_workers = { min = 0, max = 5 }
    }
    # For jobs that may not lose a worker: no cheap machines, and time to finish.
    dask-steady-policy = {
      workers          = { min = 2, max = 10 }
      graceful_timeout = "3600s"
    }
  }
}
