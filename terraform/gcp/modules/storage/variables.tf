variable "project_id" {
  type = string
}

variable "location" {
  type = string
}

variable "staging_bucket" {
  description = "Name of the staging bucket."
  type        = string
}

variable "temporary_bucket" {
  description = "Name of the bucket of Dataproc's short-lived files."
  type        = string
}

variable "keep_days" {
  description = "Days after which a short-lived file is deleted."
  type        = number
}

variable "kms_key" {
  description = "Id of the key that encrypts the bucket."
  type        = string
}

variable "accounts" {
  description = "Accounts that read and write both buckets: a short name of each, and its e-mail address."
  type        = map(string)
}

variable "labels" {
  type = map(string)
}
