variable "project_id" {
  type = string
}

variable "location" {
  type = string
}

variable "name" {
  description = "What the names of the repositories begin with."
  type        = string
}

variable "kms_key" {
  description = "Id of the key that encrypts them."
  type        = string
}

variable "readers" {
  description = "Accounts that install from it: a short name of each, and its e-mail address."
  type        = map(string)
}

variable "labels" {
  type = map(string)
}
