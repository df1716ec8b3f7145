variable "prefix" {
  description = "Prefix of the repositories' names; images are <prefix>/creditmodel-operator and so on."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]+([._-][a-z0-9]+)*$", var.prefix))
    error_message = "prefix must be lower-case letters and digits, with single dots, dashes or underscores between them, such as \"risk\"."
  }
}

variable "images" {
  description = "Images that get a repository."
  type        = set(string)
  default     = ["creditmodel-operator", "creditmodel-serving", "creditmodel-jobs"]

  validation {
    condition     = length(var.images) > 0
    error_message = "images must name one image at least."
  }
}

variable "pull_account_ids" {
  description = "Other AWS accounts whose clusters pull these images."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.pull_account_ids : can(regex("^[0-9]{12}$", id))])
    error_message = "pull_account_ids must be account ids of twelve digits, as strings."
  }
}

variable "keep_untagged_days" {
  description = "Days after which images without a tag are removed."
  type        = number
  default     = 14

  validation {
    condition     = var.keep_untagged_days >= 1 && floor(var.keep_untagged_days) == var.keep_untagged_days
    error_message = "keep_untagged_days must be a whole number of days, 1 or more."
  }
}
