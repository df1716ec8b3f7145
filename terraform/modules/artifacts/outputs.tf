output "bucket" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "key_arn" {
  description = "ARN of the KMS key that encrypts it."
  value       = aws_kms_key.this.arn
}

output "uris" {
  description = "Where each kind of object lies, for spec.model.uri, spec.serving.scoringLog.uri, spec.drift.report.uri and spec.drift.labels.uri."
  value = {
    for kind in ["bundles", "scores", "reports", "labels"] : kind => "s3://${aws_s3_bucket.this.id}/${kind}"
  }
}

output "role_arns" {
  description = "ARNs of the roles of serving, jobs, training and operator."
  value       = { for part, role in aws_iam_role.pod : part => role.arn }
}

output "service_accounts" {
  description = "Service account of each role, for the serviceAccountName of serving, jobs and retraining.job in a CreditModel."
  value       = var.service_accounts
}
