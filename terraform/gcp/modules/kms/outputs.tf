output "keys" {
  description = "Name of a key to its id. Whoever waits for it waits for the rights too."
  value       = { for name, key in google_kms_crypto_key.this : name => key.id }
  depends_on  = [google_kms_crypto_key_iam_member.agents]
}
