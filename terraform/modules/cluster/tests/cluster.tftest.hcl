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
  name       = "creditmodel-test"
  subnet_ids = ["subnet-a", "subnet-b", "subnet-c"]
}

run "the_api_server_is_private_by_default" {
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "without public_access_cidrs the API server must be reached from the VPC only"
  }
}

run "the_internet_gets_in_only_from_named_blocks" {
  variables {
    public_access_cidrs = ["203.0.113.0/24"]
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.0/24"])
    error_message = "the public endpoint must be bound to the named blocks"
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "nodes must still reach the API server inside the VPC"
  }
}

run "auto_mode_has_all_that_it_needs_together" {
  assert {
    condition = (
      aws_eks_cluster.this.compute_config[0].enabled
      && aws_eks_cluster.this.kubernetes_network_config[0].elastic_load_balancing[0].enabled
      && aws_eks_cluster.this.storage_config[0].block_storage[0].enabled
      && aws_eks_cluster.this.bootstrap_self_managed_addons == false
    )
    error_message = "EKS refuses Auto Mode unless compute, load balancing, storage and addons are set together"
  }
}

run "secrets_and_logs_are_encrypted_and_audited" {
  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].resources == toset(["secrets"]) && aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == aws_kms_key.this.arn
    error_message = "secrets must be encrypted with this module's key"
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.kms_key_id == aws_kms_key.this.arn && aws_kms_key.this.enable_key_rotation
    error_message = "control plane logs must be encrypted with a key that rotates"
  }

  assert {
    condition     = contains(aws_eks_cluster.this.enabled_cluster_log_types, "audit") && aws_cloudwatch_log_group.this.name == "/aws/eks/creditmodel-test/cluster"
    error_message = "the audit log must be on, in the encrypted group"
  }
}

run "nobody_is_administrator_by_having_made_the_cluster" {
  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "access must come from access entries alone"
  }
}

run "a_node_can_join_and_pull_and_nothing_more" {
  assert {
    condition     = toset(keys(aws_iam_role_policy_attachment.node)) == toset(["AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly"])
    error_message = "what a node may do, every pod on it could borrow"
  }
}

run "each_level_of_access_becomes_what_it_says" {
  variables {
    access = {
      platform = { principal_arn = "arn:aws:iam::123456789012:role/platform", level = "cluster-admin" }
      risk     = { principal_arn = "arn:aws:iam::123456789012:role/risk", level = "view", namespaces = ["lending"] }
      pipeline = { principal_arn = "arn:aws:iam::123456789012:role/deploy", level = "deploy" }
    }
  }

  assert {
    condition     = aws_eks_access_policy_association.this["risk"].access_scope[0].type == "namespace" && aws_eks_access_policy_association.this["risk"].access_scope[0].namespaces == toset(["lending"])
    error_message = "access to a namespace must not hold in the whole cluster"
  }

  assert {
    condition     = aws_eks_access_policy_association.this["risk"].policy_arn == "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
    error_message = "view must not be more than viewing"
  }

  assert {
    condition     = !contains(keys(aws_eks_access_policy_association.this), "pipeline") && aws_eks_access_entry.this["pipeline"].kubernetes_groups == toset(["creditmodel-deployers"])
    error_message = "the pipeline must get a Kubernetes group and no access policy of EKS"
  }
}

run "a_version_that_leaves_support_is_refused" {
  command = plan

  variables {
    kubernetes_version = "1.34"
  }

  expect_failures = [var.kubernetes_version]
}

run "the_whole_internet_is_refused" {
  command = plan

  variables {
    public_access_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.public_access_cidrs]
}

run "an_unknown_level_is_refused" {
  command = plan

  variables {
    access = { x = { principal_arn = "arn:aws:iam::123456789012:role/x", level = "root" } }
  }

  expect_failures = [var.access]
}

run "an_administrator_of_one_namespace_only_is_refused_as_cluster_admin" {
  command = plan

  variables {
    access = { x = { principal_arn = "arn:aws:iam::123456789012:role/x", level = "cluster-admin", namespaces = ["lending"] } }
  }

  expect_failures = [var.access]
}

run "one_subnet_is_refused" {
  command = plan

  variables {
    subnet_ids = ["subnet-a", "subnet-a"]
  }

  expect_failures = [var.subnet_ids]
}
