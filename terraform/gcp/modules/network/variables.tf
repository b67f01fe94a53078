variable "project_id" {
  type = string
}

variable "name" {
  description = "Name of the network, and what the names of its parts begin with."
  type        = string
}

variable "region" {
  type = string
}

variable "management_range" {
  description = "Addresses of Composer."
  type        = string
}

variable "services_range" {
  description = "Addresses of cluster nodes: one each, so /22 is room for about a thousand."
  type        = string
}

variable "node_service_account" {
  description = "E-mail address of the account that cluster nodes run as."
  type        = string
}
