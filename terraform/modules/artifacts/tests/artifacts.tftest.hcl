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
  name                       = "creditmodel-test"
  cluster_name               = "creditmodel-test"
  model_namespaces           = ["lending", "cards"]
  scoring_log_retention_days = 365
}

run "the_bucket_is_versioned_encrypted_private_and_tls_only" {
  assert {
    condition     = aws_s3_bucket.this.bucket == "creditmodel-test-123456789012-eu-central-1" && !aws_s3_bucket.this.force_destroy
    error_message = "the bucket's name must be unique in the world, and destroy must not empty it"
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "bundles must be versioned"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.this.arn
    error_message = "objects must be encrypted with this module's key"
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.this.block_public_acls && aws_s3_bucket_public_access_block.this.block_public_policy && aws_s3_bucket_public_access_block.this.ignore_public_acls && aws_s3_bucket_public_access_block.this.restrict_public_buckets
    error_message = "nothing in the bucket may be public"
  }

  assert {
    condition     = anytrue([for s in data.aws_iam_policy_document.bucket.statement : s.effect == "Deny" && contains(s.actions, "s3:*") && [for c in s.condition : c.variable] == ["aws:SecureTransport"]])
    error_message = "the bucket must refuse requests without TLS"
  }

  assert {
    condition     = anytrue([for s in data.aws_iam_policy_document.bucket.statement : s.sid == "OurKeyOnly" && s.effect == "Deny"])
    error_message = "the bucket must refuse objects under another key"
  }
}

run "serving_reads_bundles_and_adds_scores" {
  assert {
    condition     = sort(distinct(flatten([for s in data.aws_iam_policy_document.serving.statement : s.actions]))) == tolist(["kms:Decrypt", "kms:GenerateDataKey", "s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket", "s3:PutObject"])
    error_message = "serving has an action that it does not need, or lacks one"
  }

  assert {
    condition     = alltrue([for s in data.aws_iam_policy_document.serving.statement : contains(s.actions, "s3:GetObject") ? alltrue([for r in s.resources : endswith(r, "/bundles/*")]) : true])
    error_message = "serving may read bundles only: not even its own scoring log"
  }

  assert {
    condition     = alltrue([for s in data.aws_iam_policy_document.serving.statement : contains(s.actions, "s3:PutObject") ? alltrue([for r in s.resources : endswith(r, "/scores/*")]) : true])
    error_message = "serving may write the scoring log only: never a bundle"
  }
}

run "jobs_read_and_add_reports" {
  assert {
    condition     = alltrue([for s in data.aws_iam_policy_document.jobs.statement : contains(s.actions, "s3:PutObject") ? alltrue([for r in s.resources : endswith(r, "/reports/*")]) : true])
    error_message = "jobs may write reports only: never a bundle, a score or a label"
  }

  assert {
    condition     = alltrue([for s in data.aws_iam_policy_document.jobs.statement : contains(s.actions, "s3:ListBucket") ? length(s.condition) == 1 : true])
    error_message = "listing must be bound to prefixes"
  }
}

run "training_adds_bundles_and_nothing_else" {
  assert {
    condition     = alltrue([for s in data.aws_iam_policy_document.training.statement : contains(s.actions, "s3:PutObject") ? alltrue([for r in s.resources : endswith(r, "/bundles/*")]) : true])
    error_message = "training may write bundles only: never a score that it will learn from, nor a report"
  }
}

run "nobody_deletes_and_nobody_has_a_wildcard" {
  assert {
    condition = alltrue([
      for action in flatten([for d in [data.aws_iam_policy_document.serving, data.aws_iam_policy_document.jobs, data.aws_iam_policy_document.training, data.aws_iam_policy_document.operator] : [for s in d.statement : s.actions]]) :
      !strcontains(action, "*") && !strcontains(action, "Delete")
    ])
    error_message = "a pod must not delete, and no action may hold a wildcard"
  }

  assert {
    condition = alltrue([
      for resource in flatten([for d in [data.aws_iam_policy_document.serving, data.aws_iam_policy_document.jobs, data.aws_iam_policy_document.training, data.aws_iam_policy_document.operator] : [for s in d.statement : s.resources]]) :
      resource != "*"
    ])
    error_message = "no statement may hold for every resource"
  }
}

run "the_operator_reads_no_object" {
  assert {
    condition     = flatten([for s in data.aws_iam_policy_document.operator.statement : s.actions]) == ["s3:GetBucketLocation"]
    error_message = "jobs measure and serving serves; the operator must not open objects"
  }
}

run "each_part_has_its_role_in_each_namespace" {
  assert {
    condition     = toset(keys(aws_eks_pod_identity_association.this)) == toset(["serving/lending", "serving/cards", "jobs/lending", "jobs/cards", "training/lending", "training/cards", "operator/creditmodel-system"])
    error_message = "a part lacks its role in a namespace, or has one where it does not run"
  }

  assert {
    condition     = aws_eks_pod_identity_association.this["jobs/cards"].service_account == "creditmodel-jobs" && aws_eks_pod_identity_association.this["jobs/cards"].role_arn == aws_iam_role.pod["jobs"].arn
    error_message = "jobs must run with the role of jobs"
  }

  assert {
    condition     = output.service_accounts.serving == "creditmodel-serving" && output.service_accounts.jobs == "creditmodel-jobs"
    error_message = "the outputs must name the accounts that CreditModels are to name"
  }

  assert {
    condition     = alltrue([for s in data.aws_iam_policy_document.pod_trust.statement : one(s.principals).identifiers == toset(["pods.eks.amazonaws.com"]) && length(s.condition) == 2])
    error_message = "only Pod Identity, of this account and this cluster, may take the roles"
  }
}

run "outputs_name_where_each_kind_lies" {
  assert {
    condition     = sort(keys(output.uris)) == tolist(["bundles", "labels", "reports", "scores"]) && startswith(output.uris.scores, "s3://") && endswith(output.uris.scores, "/scores")
    error_message = "the manifests need a URI for each kind of object"
  }
}

run "scores_expire_when_said_and_bundles_never" {
  assert {
    condition     = flatten([for r in aws_s3_bucket_lifecycle_configuration.this.rule : [for e in r.expiration : e.days] if r.id == "scoring-logs"]) == [365]
    error_message = "scoring logs must expire after the period that was set"
  }

  assert {
    condition     = alltrue([for r in aws_s3_bucket_lifecycle_configuration.this.rule : length(r.expiration) == 0 || one(r.filter).prefix == "scores/"])
    error_message = "nothing but scoring logs may expire"
  }
}

run "a_shared_name_in_service_accounts_is_refused" {
  command = plan

  variables {
    service_accounts = { serving = "default", jobs = "default" }
  }

  expect_failures = [var.service_accounts]
}

run "a_retention_too_short_for_drift_checks_is_refused" {
  command = plan

  variables {
    scoring_log_retention_days = 7
  }

  expect_failures = [var.scoring_log_retention_days]
}

run "no_namespace_is_refused" {
  command = plan

  variables {
    model_namespaces = []
  }

  expect_failures = [var.model_namespaces]
}
