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
  region = "eu-central-1"
}

run "the_state_bucket_is_versioned_encrypted_private_and_tls_only" {
  assert {
    condition     = aws_s3_bucket.state.bucket == "creditmodel-state-123456789012-eu-central-1" && aws_s3_bucket_versioning.state.versioning_configuration[0].status == "Enabled"
    error_message = "states must be versioned"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.state.rule).apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.state.arn && aws_kms_key.state.enable_key_rotation
    error_message = "states hold secrets: they must be encrypted with a key that rotates"
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.state.block_public_policy && aws_s3_bucket_public_access_block.state.restrict_public_buckets
    error_message = "states must not be public"
  }

  assert {
    condition     = anytrue([for s in data.aws_iam_policy_document.state_bucket.statement : s.effect == "Deny" && [for c in s.condition : c.variable] == ["aws:SecureTransport"]])
    error_message = "the bucket must refuse requests without TLS"
  }
}

run "old_states_go_after_a_year_and_twenty_are_kept" {
  assert {
    condition     = alltrue([for r in aws_s3_bucket_lifecycle_configuration.state.rule : length(r.expiration) == 0 && one(r.noncurrent_version_expiration).newer_noncurrent_versions == 20])
    error_message = "a state itself must never expire"
  }
}

run "without_a_repository_there_are_no_roles" {
  assert {
    condition     = length(aws_iam_role.github) == 0 && length(aws_iam_openid_connect_provider.github) == 0
    error_message = "nobody asked for roles"
  }
}

run "a_role_is_taken_by_one_kind_of_job_of_one_repository" {
  variables {
    github_repository = "acme/creditmodel"
  }

  assert {
    condition     = alltrue(flatten([for d in data.aws_iam_policy_document.trust : [for s in d.statement : [for c in s.condition : c.test == "StringEquals" && !strcontains(join("", c.values), "*")]]]))
    error_message = "a wildcard in a subject lets other branches or repositories in"
  }

  assert {
    condition     = anytrue([for c in data.aws_iam_policy_document.trust["apply-prod"].statement[0].condition : contains(c.values, "repo:acme/creditmodel:environment:infrastructure-prod")])
    error_message = "apply must be bound to the environment that its reviewers guard"
  }

  assert {
    condition     = anytrue([for c in data.aws_iam_policy_document.trust["deploy-production"].statement[0].condition : contains(c.values, "repo:acme/creditmodel:environment:production")])
    error_message = "deployments must be bound to their environment"
  }
}

run "a_plan_writes_nothing" {
  variables {
    github_repository = "acme/creditmodel"
  }

  assert {
    condition     = alltrue([for a in flatten([for s in data.aws_iam_policy_document.plan.statement : s.actions]) : can(regex(":(Describe|Get|List|Decrypt)", a))])
    error_message = "a pull request's plan must not be able to write"
  }
}

run "an_apply_stays_in_its_environment" {
  variables {
    github_repository = "acme/creditmodel"
  }

  assert {
    condition     = anytrue([for s in data.aws_iam_policy_document.apply["dev"].statement : s.sid == "OurRoles" && s.resources == toset(["arn:aws:iam::123456789012:role/creditmodel-dev-*"])])
    error_message = "dev's apply must not touch other roles"
  }

  assert {
    condition     = anytrue([for s in data.aws_iam_policy_document.apply["dev"].statement : s.effect == "Deny" && length([for r in s.resources : r if endswith(r, "/prod/*")]) == 1])
    error_message = "dev's apply must not touch prod's state"
  }
}

run "a_wildcard_for_a_repository_is_refused" {
  command = plan

  variables {
    github_repository = "acme/*"
  }

  expect_failures = [var.github_repository]
}

run "a_zone_for_a_region_is_refused" {
  command = plan

  variables {
    region = "eu-central-1a"
  }

  expect_failures = [var.region]
}
