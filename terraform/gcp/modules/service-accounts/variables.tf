variable "project_id" {
  type = string
}

variable "name" {
  description = "What the names of accounts and roles begin with."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "name: ${var.name}. Allowed: a lower-case letter, then 1 to 20 of a-z, 0-9 and -."
  }
}
