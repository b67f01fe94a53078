variable "project_id" {
  type = string
}

variable "name" {
  description = "Name of the key ring."
  type        = string
}

variable "location" {
  description = "Region of the keys: the one of the data."
  type        = string
}

variable "agents" {
  description = "Name of a key to the accounts that encrypt with it: a short name of each, and its e-mail address."
  type        = map(map(string))
}

variable "readers" {
  description = "Name of a key to the e-mail address of the account that may look at it."
  type        = map(string)
}
