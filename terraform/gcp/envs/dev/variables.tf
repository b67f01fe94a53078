# What nobody else can know. Sizes are in settings.tf.

variable "project_id" {
  description = "Google project. Best one of its own for each environment: rights and budget are the project's."
  type        = string
}

variable "region" {
  description = "Region of everything."
  type        = string
}

variable "zone" {
  description = "Zone of Filestore, in the region."
  type        = string

  validation {
    condition     = startswith(var.zone, "${var.region}-")
    error_message = "zone: ${var.zone}. Allowed: a zone of the region ${var.region}."
  }
}

variable "provider_version" {
  description = "Version of airflow-provider-dask that Composer installs. Its wheel is uploaded before: docs/terraform-gcp.md."
  type        = string
}

variable "image_version" {
  description = "Version of Composer and Airflow; `gcloud composer environments list-upgrades` and its release notes show newer ones."
  type        = string
  default     = "composer-3-airflow-3.1.7-build.0"
}

variable "emails" {
  description = "Addresses that alerts and the budget's mails go to."
  type        = set(string)
}

variable "billing_account" {
  description = "Id of the billing account, for the budget; null: somebody else watches the project's costs."
  type        = string
}

variable "currency" {
  description = "Currency of the billing account."
  type        = string
  default     = "USD"
}

variable "repository" {
  description = "GitHub repository whose pipelines upload jobs, DAGs and wheels: owner/name."
  type        = string
}

variable "repository_owner_id" {
  description = "Number of its owner: gh api users/OWNER --jq .id"
  type        = string
}

variable "ui_ranges" {
  description = "Addresses that reach Airflow's UI: what they are, and the range. Empty: all, and IAM decides."
  type        = map(string)
  default     = {}
}

variable "temporary_prefixes" {
  description = "What is deleted from the staging bucket after keep_days. All else stays: jobs, input, initialization actions."
  type        = list(string)
  default     = ["dask/", "google-cloud-dataproc-metainfo/", "output/", "processed/", "tmp/"]

  validation {
    condition = length(var.temporary_prefixes) > 0 && alltrue(flatten([
      for prefix in var.temporary_prefixes : [
        for kept in ["jobs/", "initialization-actions/", "wheels/", "data/", "large-data/"] :
        can(regex("^[^/].*/$", prefix)) && !startswith(kept, prefix) && !startswith(prefix, kept)
      ]
    ]))
    error_message = "temporary_prefixes: ${join(", ", [for prefix in var.temporary_prefixes : "'${prefix}'"])}. Allowed: at least one; each ends with a slash and has nothing of jobs/, initialization-actions/, wheels/, data/ and large-data/ below it."
  }
}

variable "keep_days" {
  description = "Days after which what is below temporary_prefixes is deleted: at least one more than the longest max_lifetime of a cluster."
  type        = number
  default     = 7

  validation {
    condition     = var.keep_days >= 1 && floor(var.keep_days) == var.keep_days
    error_message = "keep_days: ${var.keep_days}. Allowed: a whole number from 1."
  }
}

variable "extra_packages" {
  description = "Further Python packages of Airflow: name to version."
  type        = map(string)
  default     = {}
}

variable "extra_variables" {
  description = "Further Airflow variables, for DAGs of your own."
  type        = map(string)
  default     = {}
}
