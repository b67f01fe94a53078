# The APIs that everything else needs.

resource "google_project_service" "this" {
  for_each = var.services

  project = var.project_id
  service = each.key

  # Somebody else of the project may use it: an API is switched on here, and never off.
  disable_on_destroy = false
}
