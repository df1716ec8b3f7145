# One bucket for bundles, scoring logs and reports, and what each part may do in it. A part gets the prefix that it needs:
#   bundles/  sealed models. Serving and jobs read; training adds new ones; nobody deletes one.
#   scores/   scoring logs. Serving adds; jobs and training read.
#   reports/  drift reports. Jobs add.
#   labels/   realised outcomes. Jobs and training read.

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

locals {
  bucket  = "${var.name}-${data.aws_caller_identity.current.account_id}-${data.aws_region.current.region}"
  bundles = "${aws_s3_bucket.this.arn}/bundles/*"
  scores  = "${aws_s3_bucket.this.arn}/scores/*"
  reports = "${aws_s3_bucket.this.arn}/reports/*"
  labels  = "${aws_s3_bucket.this.arn}/labels/*"
  policies = {
    serving  = data.aws_iam_policy_document.serving.json
    jobs     = data.aws_iam_policy_document.jobs.json
    training = data.aws_iam_policy_document.training.json
    operator = data.aws_iam_policy_document.operator.json
  }
  pods = merge(
    { for pair in setproduct(["serving", "jobs", "training"], var.model_namespaces) : join("/", pair) => {
      role            = pair[0]
      namespace       = pair[1]
      service_account = var.service_accounts[pair[0]]
    } },
    { "operator/${var.operator_namespace}" = {
      role            = "operator"
      namespace       = var.operator_namespace
      service_account = var.service_accounts.operator
    } },
  )
}

data "aws_iam_policy_document" "key" {
  # checkov:skip=CKV_AWS_109:in a policy of a key, * is that key
  # checkov:skip=CKV_AWS_111:in a policy of a key, * is that key
  # checkov:skip=CKV_AWS_356:in a policy of a key, * is that key

  statement {
    sid       = "Administration"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }
}

resource "aws_kms_key" "this" {
  description         = "Bundles, scoring logs and reports of ${var.name}"
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-artifacts"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_s3_bucket" "this" {
  bucket        = local.bucket
  force_destroy = var.allow_destroy
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    # One data key for many objects: a scoring log of small files would otherwise call KMS for each.
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.this.arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket = aws_s3_bucket.this.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "scoring-logs"
    status = "Enabled"

    filter {
      prefix = "scores/"
    }

    expiration {
      days = var.scoring_log_retention_days
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_logging" "this" {
  count = var.access_log_bucket == null ? 0 : 1

  bucket        = aws_s3_bucket.this.id
  target_bucket = var.access_log_bucket
  target_prefix = "${local.bucket}/"
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # A request that names another key or none of KMS is refused; one that names nothing gets this bucket's key.
  statement {
    sid       = "OurKeyOnly"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.this.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "StringNotEqualsIfExists"
      variable = "s3:x-amz-server-side-encryption-aws-kms-key-id"
      values   = [aws_kms_key.this.arn]
    }

    condition {
      test     = "Null"
      variable = "s3:x-amz-server-side-encryption"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = data.aws_iam_policy_document.bucket.json

  depends_on = [aws_s3_bucket_public_access_block.this]
}

# Pod Identity: a role for each part, bound to one service account in each namespace. No key, no OIDC provider.
data "aws_iam_policy_document" "pod_trust" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]

    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = ["arn:aws:eks:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:cluster/${var.cluster_name}"]
    }
  }
}

data "aws_iam_policy_document" "serving" {
  statement {
    sid       = "ReadBundles"
    actions   = ["s3:GetObject"]
    resources = [local.bundles]
  }

  statement {
    sid       = "AddScores"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
    resources = [local.scores]
  }

  statement {
    sid       = "ListBundles"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["bundles/*"]
    }
  }

  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]
  }
}

data "aws_iam_policy_document" "jobs" {
  statement {
    sid       = "ReadBundlesScoresLabels"
    actions   = ["s3:GetObject"]
    resources = [local.bundles, local.scores, local.labels]
  }

  statement {
    sid       = "AddReports"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
    resources = [local.reports]
  }

  statement {
    sid       = "ListWhatIsRead"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["bundles/*", "scores/*", "labels/*"]
    }
  }

  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]
  }
}

data "aws_iam_policy_document" "training" {
  statement {
    sid       = "ReadBundlesScoresLabels"
    actions   = ["s3:GetObject"]
    resources = [local.bundles, local.scores, local.labels]
  }

  statement {
    sid       = "AddBundles"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
    resources = [local.bundles]
  }

  statement {
    sid       = "ListWhatIsRead"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["bundles/*", "scores/*", "labels/*"]
    }
  }

  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]
  }
}

# The operator never opens a bundle: Jobs measure. It may see that the bucket is there, which tells a wrong set-up early.
data "aws_iam_policy_document" "operator" {
  statement {
    sid       = "SeeBucket"
    actions   = ["s3:GetBucketLocation"]
    resources = [aws_s3_bucket.this.arn]
  }
}

resource "aws_iam_role" "pod" {
  for_each = local.policies

  name                 = "${var.name}-${each.key}"
  description          = "What the ${each.key} pods of ${var.name} may do in AWS"
  assume_role_policy   = data.aws_iam_policy_document.pod_trust.json
  max_session_duration = 3600
}

resource "aws_iam_role_policy" "pod" {
  for_each = local.policies

  name   = "artifacts"
  role   = aws_iam_role.pod[each.key].id
  policy = each.value
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = local.pods

  cluster_name    = var.cluster_name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.pod[each.value.role].arn
}
