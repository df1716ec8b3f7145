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
  region                     = "eu-central-1"
  availability_zones         = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  scoring_log_retention_days = 365
}

run "the_parts_fit_together" {
  assert {
    condition     = length(output.nat_addresses) == 3
    error_message = "prod has 3 NAT gateways"
  }

  assert {
    condition     = toset(keys(output.images)) == toset(["creditmodel-operator", "creditmodel-serving", "creditmodel-jobs"])
    error_message = "the manifests need a repository for each of their images"
  }

  assert {
    condition     = output.service_accounts == { serving = "creditmodel-serving", jobs = "creditmodel-jobs", training = "creditmodel-training", operator = "creditmodel-operator" }
    error_message = "roles must be bound to the service accounts that the pods have"
  }

  assert {
    condition     = output.cluster_name == "creditmodel-prod"
    error_message = "the roles for deployments may look up clusters named creditmodel-* only"
  }
}

run "zones_of_another_region_are_refused" {
  command = plan

  variables {
    availability_zones = ["us-east-1a", "us-east-1b", "us-east-1c"]
  }

  expect_failures = [var.availability_zones]
}
