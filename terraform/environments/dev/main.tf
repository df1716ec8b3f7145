# Development and staging: one NAT gateway, and terraform destroy leaves nothing behind.

provider "aws" {
  region = var.region

  default_tags {
    tags = { project = "creditmodel", environment = "dev", managed-by = "terraform" }
  }
}

locals {
  name = "creditmodel-dev"
}

module "network" {
  source = "../../modules/network"

  name               = local.name
  availability_zones = var.availability_zones
  nat_per_zone       = false
}

module "cluster" {
  source = "../../modules/cluster"

  name                = local.name
  subnet_ids          = module.network.private_subnet_ids
  public_access_cidrs = var.public_access_cidrs
  access              = var.access
  deletion_protection = false
}

module "artifacts" {
  source = "../../modules/artifacts"

  name                       = local.name
  cluster_name               = module.cluster.name
  model_namespaces           = var.model_namespaces
  scoring_log_retention_days = var.scoring_log_retention_days
  allow_destroy              = true
}

module "registry" {
  source = "../../modules/registry"

  prefix = local.name
}
