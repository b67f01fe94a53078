variable "project_id" {
  type = string
}

variable "region" {
  type = string
}

variable "name" {
  description = "What the names of alerts and dashboard begin with."
  type        = string
}

variable "emails" {
  description = "Addresses that alerts go to."
  type        = set(string)

  validation {
    condition     = length(var.emails) > 0 && length(var.emails) <= 5 && alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "emails: ${join(", ", var.emails)}. Allowed: 1 to 5 e-mail addresses. An alert that nobody gets is none."
  }
}

variable "max_lifetime_hours" {
  description = "Hours that any cluster may live: the longest max_lifetime of your DAGs, and the time that deleting takes."
  type        = number

  validation {
    condition     = var.max_lifetime_hours > 0 && var.max_lifetime_hours <= 337
    error_message = "max_lifetime_hours: ${var.max_lifetime_hours}. Allowed: above 0, at most 337 (Dataproc's limit is 14 days)."
  }
}

variable "max_cpus" {
  description = "Virtual CPUs that all clusters together may have for long."
  type        = number

  validation {
    condition     = var.max_cpus > 0
    error_message = "max_cpus: ${var.max_cpus}. Allowed: above 0."
  }
}
