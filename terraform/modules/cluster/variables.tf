variable "name" {
  description = "Name of the EKS cluster."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 32 lower-case letters, digits and dashes, begin with a letter and not end with a dash, such as \"creditmodel-dev\"."
  }
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.35"

  validation {
    condition     = can(regex("^1\\.(3[5-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version must be 1.35 or newer, as \"1.35\": 1.34 leaves EKS standard support on 2026-12-02."
  }
}

variable "subnet_ids" {
  description = "Private subnets, in two zones at least, for nodes, pods and the control plane's network interfaces."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids must name two different private subnets at least; EKS refuses fewer. Take private_subnet_ids of modules/network."
  }
}

variable "public_access_cidrs" {
  description = "Blocks from which the API server is reached over the internet. Empty: from the VPC only."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.public_access_cidrs : can(cidrnetmask(cidr))])
    error_message = "public_access_cidrs must be IPv4 blocks, such as [\"203.0.113.0/24\"]."
  }

  validation {
    condition     = alltrue([for cidr in var.public_access_cidrs : try(tonumber(split("/", cidr)[1]) >= 16, false)])
    error_message = "public_access_cidrs must not be wider than /16. Name the addresses of your offices, VPN or runners, never the whole internet."
  }
}

variable "access" {
  description = "Who may enter the cluster: IAM principal and what it may do. view, edit and admin hold in the namespaces named (all, if none is); cluster-admin everywhere; deploy maps the principal to the Kubernetes group creditmodel-deployers, whose rights the manifests give."
  type = map(object({
    principal_arn = string
    level         = string
    namespaces    = optional(set(string), [])
  }))
  default = {}

  validation {
    condition     = alltrue([for entry in var.access : contains(["view", "edit", "admin", "cluster-admin", "deploy"], entry.level)])
    error_message = "access: level must be view, edit, admin, cluster-admin or deploy."
  }

  validation {
    condition     = alltrue([for entry in var.access : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/", entry.principal_arn))])
    error_message = "access: principal_arn must be the ARN of an IAM role or user, such as \"arn:aws:iam::123456789012:role/risk-team\"."
  }

  validation {
    condition     = alltrue([for entry in var.access : length(entry.namespaces) == 0 || !contains(["cluster-admin", "deploy"], entry.level)])
    error_message = "access: cluster-admin and deploy take no namespaces; cluster-admin holds everywhere, deploy where the manifests bind its group."
  }
}

variable "log_retention_days" {
  description = "Days that the control plane's logs (with its audit log) are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096], var.log_retention_days)
    error_message = "log_retention_days must be a period that CloudWatch Logs offers, of 30 days at least: 30, 60, 90, 120, 150, 180, 365, 400, 545, 731 or 1096."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the cluster until this is set to false."
  type        = bool
  default     = true
}
