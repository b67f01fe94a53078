variable "project_id" {
  type = string
}

variable "services" {
  description = "Names of the APIs, such as dataproc.googleapis.com."
  type        = set(string)
}
