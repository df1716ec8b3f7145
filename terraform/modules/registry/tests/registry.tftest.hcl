mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  prefix = "creditmodel-test"
}

run "images_never_move_and_are_scanned_and_encrypted" {
  assert {
    condition     = toset(keys(aws_ecr_repository.this)) == toset(["creditmodel-operator", "creditmodel-serving", "creditmodel-jobs"])
    error_message = "each image needs its repository"
  }

  assert {
    condition     = alltrue([for r in aws_ecr_repository.this : r.image_tag_mutability == "IMMUTABLE" && r.image_scanning_configuration[0].scan_on_push && r.encryption_configuration[0].kms_key == aws_kms_key.this.arn])
    error_message = "tags must be immutable, images scanned, and encrypted with this module's key"
  }
}

run "only_images_without_a_tag_are_removed" {
  assert {
    condition     = alltrue([for p in aws_ecr_lifecycle_policy.this : [for r in jsondecode(p.policy).rules : r.selection.tagStatus] == ["untagged"]])
    error_message = "a tagged image may be serving"
  }
}

run "no_other_account_pulls_unless_named" {
  assert {
    condition     = length(aws_ecr_repository_policy.this) == 0
    error_message = "without pull_account_ids there must be no repository policy"
  }
}

run "a_named_account_pulls_and_never_pushes" {
  variables {
    pull_account_ids = ["210987654321"]
  }

  assert {
    condition     = length(aws_ecr_repository_policy.this) == 3 && alltrue([for s in data.aws_iam_policy_document.pull[0].statement : alltrue([for a in s.actions : !strcontains(a, "Put") && !strcontains(a, "Upload") && a != "ecr:*"])])
    error_message = "other accounts may pull only"
  }
}

run "a_number_that_is_no_account_is_refused" {
  command = plan

  variables {
    pull_account_ids = ["12345"]
  }

  expect_failures = [var.pull_account_ids]
}

run "half_a_day_is_refused" {
  command = plan

  variables {
    keep_untagged_days = 1.5
  }

  expect_failures = [var.keep_untagged_days]
}

run "a_prefix_that_ecr_would_refuse_is_refused" {
  command = plan

  variables {
    prefix = "Risk//models"
  }

  expect_failures = [var.prefix]
}
