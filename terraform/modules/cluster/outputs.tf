output "name" {
  description = "Name of the cluster, for aws eks update-kubeconfig."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "Address of the API server."
  value       = aws_eks_cluster.this.endpoint
}

output "certificate_authority" {
  description = "The cluster's CA certificate, base64."
  value       = one(aws_eks_cluster.this.certificate_authority[*].data)
}

output "key_arn" {
  description = "ARN of the KMS key for secrets and control plane logs."
  value       = aws_kms_key.this.arn
}

output "node_role_arn" {
  description = "ARN of the nodes' role."
  value       = aws_iam_role.node.arn
}
