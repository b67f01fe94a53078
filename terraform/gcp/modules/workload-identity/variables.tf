variable "project_id" {
  type = string
}

variable "name" {
  description = "Name of the pool, and what the names of its account and role begin with."
  type        = string
}

variable "repository" {
  description = "Repository whose pipelines may act: owner/name."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.repository))
    error_message = "repository: ${var.repository}. Allowed: owner/name."
  }
}

variable "repository_owner_id" {
  description = "Number of the repository's owner."
  type        = string

  validation {
    condition     = can(regex("^[0-9]+$", var.repository_owner_id))
    error_message = "repository_owner_id: ${var.repository_owner_id}. Allowed: the number of the owner; `gh api users/OWNER --jq .id` shows it."
  }
}

variable "refs" {
  description = "Refs whose pipelines may act."
  type        = list(string)

  validation {
    condition     = length(var.refs) > 0 && alltrue([for ref in var.refs : can(regex("^refs/(heads|tags)/[A-Za-z0-9._/-]+$", ref))])
    error_message = "refs: ${join(", ", var.refs)}. Allowed: at least one such as refs/heads/main, each without a pattern."
  }
}

variable "uploads" {
  description = "What a pipeline may write: a short name to a bucket and a prefix that ends with a slash."
  type        = map(object({ bucket = string, prefix = string }))

  validation {
    condition     = alltrue([for upload in var.uploads : can(regex("^[^/].*/$", upload.prefix))])
    error_message = "uploads: ${join(", ", [for upload in var.uploads : "'${upload.prefix}'"])}. Allowed: prefixes that end with a slash and are more than one."
  }
}

variable "location" {
  description = "Region of the wheel repository."
  type        = string
}

variable "wheel_repository" {
  description = "Id of the repository for wheels."
  type        = string
}
