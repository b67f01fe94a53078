variable "project_id" {
  type = string
}

variable "name" {
  type = string
}

variable "zone" {
  type = string
}

variable "network" {
  description = "Id of the network."
  type        = string
}

variable "client_range" {
  description = "Addresses that may mount it: the subnet of cluster nodes."
  type        = string
}

variable "capacity_gb" {
  type = number

  validation {
    condition     = var.capacity_gb >= 1024
    error_message = "capacity_gb: ${var.capacity_gb}. Allowed: 1024 and more, the least that the tier ZONAL has."
  }
}

variable "kms_key" {
  description = "Id of the key that encrypts it."
  type        = string
}

variable "deletion_protection" {
  type = bool
}

variable "labels" {
  type = map(string)
}
