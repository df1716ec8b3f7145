# Production: a NAT gateway in every zone, nothing that one command deletes.

provider "aws" {
  region = var.region

  default_tags {
    tags = { project = "creditmodel", environment = "prod", managed-by = "terraform" }
  }
}

locals {
  name = "creditmodel-prod"
}

module "network" {
  source = "../../modules/network"

  name               = local.name
  availability_zones = var.availability_zones
  nat_per_zone       = true
}

module "cluster" {
  source = "../../modules/cluster"

  name                = local.name
  subnet_ids          = module.network.private_subnet_ids
  public_access_cidrs = var.public_access_cidrs
  access              = var.access
  deletion_protection = true
}

module "artifacts" {
  source = "../../modules/artifacts"

  name                       = local.name
  cluster_name               = module.cluster.name
  model_namespaces           = var.model_namespaces
  scoring_log_retention_days = var.scoring_log_retention_days
  allow_destroy              = false
}

module "registry" {
  source = "../../modules/registry"

  prefix           = local.name
  pull_account_ids = var.pull_account_ids
}
