variable "billing_account" {
  description = "Id of the billing account that pays for the project: 012345-6789AB-CDEF01."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "billing_account: ${var.billing_account}. Allowed: an id such as 012345-6789AB-CDEF01; `gcloud billing accounts list` shows it."
  }
}

variable "name" {
  type = string
}

variable "project_number" {
  type = string
}

variable "monthly_amount" {
  description = "Whole units of the currency."
  type        = number

  validation {
    condition     = var.monthly_amount >= 1 && floor(var.monthly_amount) == var.monthly_amount
    error_message = "monthly_amount: ${var.monthly_amount}. Allowed: a whole number from 1."
  }
}

variable "currency" {
  description = "That of the billing account."
  type        = string
}

variable "notification_channels" {
  description = "Names of at most five channels, beside the account's administrators."
  type        = list(string)

  validation {
    condition     = length(var.notification_channels) <= 5
    error_message = "notification_channels: ${length(var.notification_channels)} of them. Allowed: at most 5."
  }
}
