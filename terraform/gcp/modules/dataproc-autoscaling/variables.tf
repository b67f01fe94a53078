variable "project_id" {
  type = string
}

variable "region" {
  type = string
}

variable "policies" {
  description = "Id of a policy to what it allows. Durations are seconds with an s; factors and fractions are of what YARN lacks or has too much."
  type = map(object({
    workers                 = object({ min = number, max = number })
    secondary_workers       = optional(object({ min = number, max = number }), { min = 0, max = 0 })
    cooldown                = optional(string, "120s")
    graceful_timeout        = optional(string, "120s")
    scale_up                = optional(number, 1)
    scale_up_min_fraction   = optional(number, 0.8)
    scale_down              = optional(number, 0.5)
    scale_down_min_fraction = optional(number, 0.2)
  }))

  validation {
    condition     = alltrue([for id in keys(var.policies) : can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{1,48}[A-Za-z0-9]$", id))])
    error_message = "policies: ${join(", ", keys(var.policies))}. Allowed ids: 3 to 50 of letters, digits, _ and -, with a letter or digit at both ends."
  }

  validation {
    condition = alltrue([
      for policy in var.policies : policy.workers.min >= 2 && policy.workers.max >= policy.workers.min
      && policy.secondary_workers.min >= 0 && policy.secondary_workers.max >= policy.secondary_workers.min
    ])
    error_message = "policies: ${join(", ", keys(var.policies))}. Allowed: at least 2 workers, 0 secondary workers, and no maximum below its minimum."
  }

  validation {
    condition = alltrue(flatten([
      for policy in var.policies : [
        for limit in [{ value = policy.cooldown, least = 120 }, { value = policy.graceful_timeout, least = 0 }] :
        can(regex("^[0-9]+s$", limit.value))
        && try(tonumber(trimsuffix(limit.value, "s")) >= limit.least, false)
        && try(tonumber(trimsuffix(limit.value, "s")) <= 86400, false)
      ]
    ]))
    error_message = "policies: ${join(", ", keys(var.policies))}. Allowed: durations such as 120s, at most 86400s, and at least 120s for cooldown."
  }

  validation {
    condition = alltrue(flatten([
      for policy in var.policies : [
        for share in [policy.scale_up, policy.scale_up_min_fraction, policy.scale_down, policy.scale_down_min_fraction] :
        share >= 0 && share <= 1
      ]
    ]))
    error_message = "policies: ${join(", ", keys(var.policies))}. Allowed: factors and fractions from 0 to 1."
  }
}
