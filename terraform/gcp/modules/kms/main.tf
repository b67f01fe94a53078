# One key for each kind of data. Google's own accounts that write it may use that key and no other.

resource "google_kms_key_ring" "this" {
  project  = var.project_id
  name     = var.name
  location = var.location
}

resource "google_kms_crypto_key" "this" {
  for_each = var.agents

  name            = each.key
  key_ring        = google_kms_key_ring.this.id
  rotation_period = "7776000s" # 90 days

  # Without its key the data is lost.
  lifecycle {
    prevent_destroy = true
  }
}

locals {
  grants = merge([
    for key, agents in var.agents : { for name, email in agents : "${key}/${name}" => { key = key, email = email } }
  ]...)
}

resource "google_kms_crypto_key_iam_member" "agents" {
  for_each = local.grants

  crypto_key_id = google_kms_crypto_key.this[each.value.key].id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${each.value.email}"
}

# Preflight asks who may use a key; it neither uses nor changes it.
resource "google_project_iam_custom_role" "look" {
  project     = var.project_id
  role_id     = "${replace(var.name, "-", "_")}_look_at_key"
  title       = "Look at a key"
  description = "See a key and who may use it."
  permissions = ["cloudkms.cryptoKeys.get", "cloudkms.cryptoKeys.getIamPolicy"]
}

resource "google_kms_crypto_key_iam_member" "readers" {
  for_each = var.readers

  crypto_key_id = google_kms_crypto_key.this[each.key].id
  role          = google_project_iam_custom_role.look.id
  member        = "serviceAccount:${each.value}"
}
