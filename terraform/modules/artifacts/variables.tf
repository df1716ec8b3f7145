variable "name" {
  description = "Prefix of every name here; the bucket is <name>-<account>-<region>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 30 lower-case letters, digits and dashes, begin with a letter and not end with a dash: it becomes part of a bucket's name, of which S3 allows 63 characters."
  }
}

variable "cluster_name" {
  description = "EKS cluster whose pods get the roles through Pod Identity."
  type        = string
}

variable "model_namespaces" {
  description = "Namespaces in which CreditModels live. The service accounts of serving, jobs and training in each get their roles."
  type        = set(string)

  validation {
    condition     = length(var.model_namespaces) > 0 && alltrue([for n in var.model_namespaces : can(regex("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", n))])
    error_message = "model_namespaces must name one namespace at least, each of lower-case letters, digits and dashes, such as [\"lending\"]."
  }
}

variable "operator_namespace" {
  description = "Namespace that the operator runs in."
  type        = string
  default     = "creditmodel-system"
}

variable "service_accounts" {
  description = "Names of the service accounts, as manifests/components/model-namespace and the serviceAccountName of serving, jobs and retraining.job in a CreditModel have them."
  type = object({
    serving  = optional(string, "creditmodel-serving")
    jobs     = optional(string, "creditmodel-jobs")
    training = optional(string, "creditmodel-training")
    operator = optional(string, "creditmodel-operator")
  })
  default = {}

  validation {
    condition     = length(distinct(values(var.service_accounts))) == 4
    error_message = "service_accounts must have four different names: a shared one would give each part the others' rights."
  }
}

variable "scoring_log_retention_days" {
  description = "Days that scoring logs are kept. They hold applicants' data: the period is a matter of law, so it is set and not defaulted."
  type        = number

  validation {
    condition     = var.scoring_log_retention_days >= 90 && var.scoring_log_retention_days <= 3650
    error_message = "scoring_log_retention_days must be from 90 (a drift check and its labels need the recent past) to 3650."
  }
}

variable "access_log_bucket" {
  description = "Bucket that receives S3 server access logs; null keeps none."
  type        = string
  default     = null
}

variable "allow_destroy" {
  description = "Let terraform destroy delete the bucket with everything in it. For throw-away environments only."
  type        = bool
  default     = false
}
