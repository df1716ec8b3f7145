output "repository_urls" {
  description = "Where each image is pushed to and pulled from; kustomize edit set image takes them."
  value       = { for image, repository in aws_ecr_repository.this : image => repository.repository_url }
}

output "repository_arns" {
  description = "ARNs of the repositories, for the role that pushes."
  value       = { for image, repository in aws_ecr_repository.this : image => repository.arn }
}
