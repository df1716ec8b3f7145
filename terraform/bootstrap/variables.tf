variable "name" {
  description = "Prefix of every name here; the state bucket is <name>-state-<account>-<region>."
  type        = string
  default     = "creditmodel"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 20 lower-case letters, digits and dashes, begin with a letter and not end with a dash: it becomes part of a bucket's name."
  }
}

variable "region" {
  description = "AWS region of the state bucket."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be an AWS region, such as \"eu-central-1\"."
  }
}

variable "github_repository" {
  description = "Repository whose workflows get the roles, as owner/name. Null makes no roles."
  type        = string
  default     = null

  validation {
    condition     = var.github_repository == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository must be owner/name without host or wildcard, such as \"acme/creditmodel\"."
  }
}

variable "environments" {
  description = "Environments that this account holds. Each gets a role for apply, of the GitHub environment infrastructure-<environment>."
  type        = set(string)
  default     = ["dev", "prod"]

  validation {
    condition     = length(var.environments) > 0 && alltrue([for e in var.environments : can(regex("^[a-z][a-z0-9]{1,11}$", e))])
    error_message = "environments must be names of 2 to 12 lower-case letters and digits, such as [\"dev\", \"prod\"]."
  }
}
