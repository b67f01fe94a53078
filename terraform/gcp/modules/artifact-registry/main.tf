# Where Composer gets Python packages from: our wheels first, all others through a cache of PyPI. Composer installs from
# here only, so it needs no internet.

resource "google_artifact_registry_repository" "wheels" {
  project       = var.project_id
  location      = var.location
  repository_id = "${var.name}-wheels"
  description   = "Wheels of our own."
  format        = "PYTHON"
  kms_key_name  = var.kms_key
  labels        = var.labels
}

resource "google_artifact_registry_repository" "pypi" {
  project       = var.project_id
  location      = var.location
  repository_id = "${var.name}-pypi"
  description   = "What was fetched from PyPI."
  format        = "PYTHON"
  mode          = "REMOTE_REPOSITORY"
  kms_key_name  = var.kms_key
  labels        = var.labels

  remote_repository_config {
    python_repository {
      public_repository = "PYPI"
    }
  }
}

resource "google_artifact_registry_repository" "python" {
  project       = var.project_id
  location      = var.location
  repository_id = "${var.name}-python"
  description   = "Both, as one package index."
  format        = "PYTHON"
  mode          = "VIRTUAL_REPOSITORY"
  kms_key_name  = var.kms_key
  labels        = var.labels

  # A package of ours is never taken from elsewhere, whatever its version there.
  virtual_repository_config {
    upstream_policies {
      id         = "wheels"
      repository = google_artifact_registry_repository.wheels.id
      priority   = 100
    }
    upstream_policies {
      id         = "pypi"
      repository = google_artifact_registry_repository.pypi.id
      priority   = 1
    }
  }
}

resource "google_artifact_registry_repository_iam_member" "readers" {
  for_each = var.readers

  project    = var.project_id
  location   = var.location
  repository = google_artifact_registry_repository.python.name
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:${each.value}"
}
