variable "name" {
  description = "Prefix of every name in this network."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 32 lower-case letters, digits and dashes, begin with a letter and not end with a dash, such as \"creditmodel-dev\"."
  }
}

variable "cidr" {
  description = "IPv4 block of the VPC. A /16 gives each zone 4,094 addresses for nodes and pods."
  type        = string
  default     = "10.60.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.cidr)) && tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20
    error_message = "cidr must be an IPv4 block from /16 to /20, such as \"10.60.0.0/16\": pods take addresses of their own from it."
  }
}

variable "availability_zones" {
  description = "Three availability zones of the provider's region."
  type        = list(string)

  validation {
    condition     = length(var.availability_zones) == 3 && length(distinct(var.availability_zones)) == 3
    error_message = "availability_zones must name three different zones, such as [\"eu-central-1a\", \"eu-central-1b\", \"eu-central-1c\"]."
  }
}

variable "nat_per_zone" {
  description = "One NAT gateway in each zone (survives the loss of a zone) rather than one for all."
  type        = bool
  default     = true
}

variable "flow_log_retention_days" {
  description = "Days that VPC flow logs are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096], var.flow_log_retention_days)
    error_message = "flow_log_retention_days must be a period that CloudWatch Logs offers, of 30 days at least: 30, 60, 90, 120, 150, 180, 365, 400, 545, 731 or 1096."
  }
}
