output "cluster_name" {
  description = "For aws eks update-kubeconfig --name."
  value       = module.cluster.name
}

output "images" {
  description = "Repository of each image, for kustomize edit set image and CREDITMODEL_SERVING_IMAGE, CREDITMODEL_JOBS_IMAGE."
  value       = module.registry.repository_urls
}

output "uris" {
  description = "Where bundles, scores, reports and labels lie, for the fields of a CreditModel."
  value       = module.artifacts.uris
}

output "service_accounts" {
  description = "Service accounts that hold the AWS roles."
  value       = module.artifacts.service_accounts
}

output "nat_addresses" {
  description = "Public addresses of the cluster's outgoing traffic."
  value       = module.network.nat_addresses
}
