variable "project_id" {
  type = string
}

variable "name" {
  description = "Name of the environment."
  type        = string
}

variable "region" {
  type = string
}

variable "bucket" {
  description = "Name of its bucket, with DAGs and logs."
  type        = string
}

variable "network" {
  description = "Id of the network."
  type        = string
}

variable "subnetwork" {
  description = "Id of its subnet."
  type        = string
}

variable "service_account" {
  description = "E-mail address of the account as which Airflow acts."
  type        = string
}

variable "kms_key" {
  description = "Id of the key that encrypts environment and bucket."
  type        = string
}

variable "image_version" {
  description = "Composer 3 with Airflow 2.11 or later, such as composer-3-airflow-3.1.7-build.0."
  type        = string

  validation {
    condition     = can(regex("^composer-3-airflow-(2\\.1[1-9]|[3-9]|[1-9][0-9])(\\.|-|$)", var.image_version))
    error_message = "image_version: ${var.image_version}. Allowed: composer-3-airflow-… with Airflow 2.11 or later."
  }
}

variable "provider_version" {
  description = "Version of airflow-provider-dask."
  type        = string

  validation {
    condition     = can(regex("^[0-9]+(\\.[0-9]+)+[a-z0-9.+]*$", var.provider_version))
    error_message = "provider_version: ${var.provider_version}. Allowed: an exact version such as 0.4.0."
  }
}

variable "package_index" {
  description = "Package index that Composer installs from."
  type        = string
}

variable "extra_packages" {
  description = "Further packages: name to version, such as { dask-ml = \"==2025.1.0\" }."
  type        = map(string)
  default     = {}
}

variable "airflow_variables" {
  description = "Airflow variables: name to value. They are environment variables, so the UI does not list them."
  type        = map(string)
}

variable "instance" {
  description = "[dask] instance: the name of this Airflow among all that make clusters in the project."
  type        = string

  validation {
    condition     = var.instance != "default" && can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", var.instance))
    error_message = "instance: ${var.instance}. Allowed: a name of its own of a-z, 0-9 and -, but not default."
  }
}

variable "staging" {
  description = "[dask] staging: where jobs leave their results until they are stored."
  type        = string
}

variable "extra_configuration" {
  description = "Further options of Airflow: section-option to value."
  type        = map(string)
  default     = {}
}

variable "size" {
  description = "Size of Google's part: database and network."
  type        = string

  validation {
    condition     = contains(["ENVIRONMENT_SIZE_SMALL", "ENVIRONMENT_SIZE_MEDIUM", "ENVIRONMENT_SIZE_LARGE"], var.size)
    error_message = "size: ${var.size}. Allowed: ENVIRONMENT_SIZE_SMALL, ENVIRONMENT_SIZE_MEDIUM and ENVIRONMENT_SIZE_LARGE."
  }
}

variable "workers" {
  description = "Airflow workers at least and at most."
  type        = object({ min = number, max = number })
}

variable "high_resilience" {
  description = "Whether it runs in two zones, with two schedulers and triggerers."
  type        = bool
}

variable "snapshots" {
  description = "Whether Airflow's database is saved every night."
  type        = bool
}

variable "ui_ranges" {
  description = "Addresses that reach Airflow's UI: what they are, and the range. Empty: all, and IAM decides."
  type        = map(string)
}

variable "labels" {
  type = map(string)
}
