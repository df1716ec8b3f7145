# Once per account, by an administrator, before the environments: the bucket of the states, and the roles that GitHub's
# workflows take by OpenID Connect, so that no key is stored anywhere. Its own state is local; keep it in a safe place or
# move it into the bucket afterwards (README).

provider "aws" {
  region = var.region

  default_tags {
    tags = { project = var.name, part = "bootstrap", managed-by = "terraform" }
  }
}

data "aws_caller_identity" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  github  = var.github_repository == null ? toset([]) : toset(["github"])
  # What each role may be taken for, in GitHub's own words.
  subjects = merge(
    { plan = "repo:${coalesce(var.github_repository, "none/none")}:pull_request" },
    { images = "repo:${coalesce(var.github_repository, "none/none")}:environment:images" },
    { for e in var.environments : "apply-${e}" => "repo:${coalesce(var.github_repository, "none/none")}:environment:infrastructure-${e}" },
    { for e in ["staging", "production", "drift-report"] : "deploy-${e}" => "repo:${coalesce(var.github_repository, "none/none")}:environment:${e}" },
  )
  roles = var.github_repository == null ? {} : local.subjects
}

resource "aws_kms_key" "state" {
  description         = "Terraform states of ${var.name}"
  enable_key_rotation = true
}

# Not force_destroy: S3 refuses to delete a bucket that holds a state or an old version of one.
resource "aws_s3_bucket" "state" {
  # checkov:skip=CKV_AWS_18:the bucket of access logs would need a state of its own; CloudTrail records data events of this one

  bucket        = "${var.name}-state-${local.account}-${var.region}"
  force_destroy = false
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.state.arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket = aws_s3_bucket.state.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    id     = "old-states"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days           = 365
      newer_noncurrent_versions = 20
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.state]
}

resource "aws_s3_bucket_ownership_controls" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

data "aws_iam_policy_document" "state_bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]

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
}

resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id
  policy = data.aws_iam_policy_document.state_bucket.json

  depends_on = [aws_s3_bucket_public_access_block.state]
}

resource "aws_iam_openid_connect_provider" "github" {
  for_each = local.github

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "trust" {
  for_each = local.roles

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.github["github"].arn]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    # StringEquals, never StringLike: a wildcard here would let any branch's workflow in.
    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = [each.value]
    }
  }
}

resource "aws_iam_role" "github" {
  for_each = local.roles

  name                 = "${var.name}-github-${each.key}"
  description          = "GitHub Actions: ${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 3600
}

# A plan reads everything that Terraform manages and the states, and writes nothing: it runs with -lock=false.
resource "aws_iam_role_policy_attachment" "plan" {
  for_each = local.github

  role       = aws_iam_role.github["plan"].name
  policy_arn = "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess"
}

data "aws_iam_policy_document" "plan" {
  # checkov:skip=CKV_AWS_356:what is described or listed has no name yet when it is asked for

  statement {
    sid = "ReadWhatIsManaged"
    actions = [
      "ec2:Describe*", "ecr:Describe*", "ecr:Get*", "ecr:List*", "eks:Describe*", "eks:List*", "iam:Get*", "iam:List*",
      "kms:Describe*", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:List*", "logs:Describe*", "logs:List*",
      "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration", "s3:GetAccelerateConfiguration",
      "s3:GetReplicationConfiguration",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "ReadStates"
    actions   = ["s3:GetObject", "s3:ListBucket"]
    resources = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
  }

  statement {
    sid       = "ReadStatesKey"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.state.arn]
  }
}

resource "aws_iam_role_policy" "plan" {
  for_each = local.github

  name   = "plan"
  role   = aws_iam_role.github["plan"].id
  policy = data.aws_iam_policy_document.plan.json
}

# An apply builds networks, clusters, keys and buckets, so its rights are wide: whoever may write the policies of this
# environment's roles can give them anything. What bounds it is that only a job of the GitHub environment gets it, after
# its reviewers' approval, and that it cannot touch other roles, other environments' states or the state bucket itself.
resource "aws_iam_role_policy_attachment" "apply" {
  for_each = { for key, subject in local.roles : key => subject if startswith(key, "apply-") }

  role       = aws_iam_role.github[each.key].name
  policy_arn = "arn:aws:iam::aws:policy/PowerUserAccess"
}

data "aws_iam_policy_document" "apply" {
  # checkov:skip=CKV_AWS_356:what is yet to be created has no name that could be listed; what has one is, by its prefix

  for_each = var.environments

  statement {
    sid = "OurRoles"
    actions = [
      "iam:AttachRolePolicy", "iam:CreateRole", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy", "iam:PassRole",
      "iam:PutRolePolicy", "iam:TagRole", "iam:UntagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole",
    ]
    resources = ["arn:aws:iam::${local.account}:role/${var.name}-${each.key}-*"]
  }

  statement {
    sid       = "ReadRoles"
    actions   = ["iam:Get*", "iam:List*"]
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = length(var.environments) > 1 ? ["others"] : []

    content {
      sid       = "OtherEnvironmentsStates"
      effect    = "Deny"
      actions   = ["s3:*Object*"]
      resources = [for other in setsubtract(var.environments, [each.key]) : "${aws_s3_bucket.state.arn}/${other}/*"]
    }
  }

  statement {
    sid       = "StatesBucketItself"
    effect    = "Deny"
    actions   = ["s3:DeleteBucket*", "s3:PutBucket*", "s3:DeleteObjectVersion"]
    resources = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
  }
}

resource "aws_iam_role_policy" "apply" {
  for_each = { for key, subject in local.roles : key => subject if startswith(key, "apply-") }

  name   = "apply"
  role   = aws_iam_role.github[each.key].id
  policy = data.aws_iam_policy_document.apply[trimprefix(each.key, "apply-")].json
}

data "aws_iam_policy_document" "images" {
  statement {
    sid       = "LogIn"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid = "Push"
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
    ]
    resources = ["arn:aws:ecr:*:${local.account}:repository/*/creditmodel-*"]
  }
}

resource "aws_iam_role_policy" "images" {
  for_each = local.github

  name   = "push"
  role   = aws_iam_role.github["images"].id
  policy = data.aws_iam_policy_document.images.json
}

# A deployment asks AWS only where the cluster is; what it may do inside is the cluster's access entry (level deploy).
data "aws_iam_policy_document" "deploy" {
  statement {
    actions   = ["eks:DescribeCluster"]
    resources = ["arn:aws:eks:*:${local.account}:cluster/${var.name}-*"]
  }
}

resource "aws_iam_role_policy" "deploy" {
  for_each = { for key, subject in local.roles : key => subject if startswith(key, "deploy-") }

  name   = "find-cluster"
  role   = aws_iam_role.github[each.key].id
  policy = data.aws_iam_policy_document.deploy.json
}
