variable "region" {
  description = "AWS region of everything here."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be an AWS region, such as \"eu-central-1\"."
  }
}

variable "availability_zones" {
  description = "Three availability zones of the region."
  type        = list(string)

  validation {
    condition     = alltrue([for zone in var.availability_zones : startswith(zone, var.region)])
    error_message = "availability_zones must lie in var.region: their names begin with it."
  }
}

variable "model_namespaces" {
  description = "Namespaces in which CreditModels live."
  type        = set(string)
  default     = ["lending"]
}

variable "scoring_log_retention_days" {
  description = "Days that scoring logs, which hold applicants' data, are kept."
  type        = number
  default     = 90
}

variable "public_access_cidrs" {
  description = "Blocks from which the API server is reached over the internet. Empty: from the VPC only."
  type        = set(string)
  default     = []
}

variable "access" {
  description = "Who may enter the cluster; see modules/cluster."
  type = map(object({
    principal_arn = string
    level         = string
    namespaces    = optional(set(string), [])
  }))
  default = {}
}
