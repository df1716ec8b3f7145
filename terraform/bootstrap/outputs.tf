output "state_bucket" {
  description = "Bucket of the states, for backend.hcl of every environment."
  value       = aws_s3_bucket.state.id
}

output "state_key_arn" {
  description = "ARN of the KMS key that encrypts the states, for backend.hcl."
  value       = aws_kms_key.state.arn
}

output "github_role_arns" {
  description = "Roles for the workflows' variables AWS_ROLE_ARN, by purpose; empty without github_repository."
  value       = { for purpose, role in aws_iam_role.github : purpose => role.arn }
}
