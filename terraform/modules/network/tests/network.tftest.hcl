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
  name               = "creditmodel-test"
  availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
}

run "three_zones_with_private_and_public_subnets_that_do_not_overlap" {
  assert {
    condition     = length(aws_subnet.private) == 3 && length(aws_subnet.public) == 3
    error_message = "each of the three zones needs a private and a public subnet"
  }

  assert {
    condition     = length(distinct(concat([for s in aws_subnet.private : s.cidr_block], [for s in aws_subnet.public : s.cidr_block]))) == 6
    error_message = "two subnets have the same block"
  }

  assert {
    condition     = alltrue([for s in aws_subnet.public : cidrhost("${split("/", s.cidr_block)[0]}/20", 0) == "10.60.240.0"])
    error_message = "public blocks must lie in the last sixteenth of the VPC, which no private block takes"
  }

  assert {
    condition     = alltrue([for s in concat(values(aws_subnet.private), values(aws_subnet.public)) : !s.map_public_ip_on_launch])
    error_message = "no subnet may hand out public addresses"
  }
}

run "a_zone_leaves_through_its_own_gateway" {
  assert {
    condition     = length(aws_nat_gateway.this) == 3 && alltrue([for zone, r in aws_route.nat : r.nat_gateway_id == aws_nat_gateway.this[zone].id])
    error_message = "with nat_per_zone, the loss of one zone must not cut off another"
  }
}

run "one_gateway_for_all_where_asked" {
  variables {
    nat_per_zone = false
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.nat) == 3
    error_message = "one gateway must serve the three private route tables"
  }
}

run "buckets_and_images_are_reached_without_leaving_the_vpc" {
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && length(aws_vpc_endpoint.s3.route_table_ids) == 3
    error_message = "every private route table needs the S3 gateway endpoint"
  }

  assert {
    condition     = alltrue([for s in ["ecr.api", "ecr.dkr", "eks-auth", "sts"] : contains(keys(aws_vpc_endpoint.interface), s)])
    error_message = "image pulls and Pod Identity need interface endpoints"
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints.cidr_ipv4 == "10.60.0.0/16" && aws_vpc_security_group_ingress_rule.endpoints.to_port == 443
    error_message = "endpoints take HTTPS from the VPC and nothing else"
  }
}

run "all_traffic_is_logged_and_the_log_is_encrypted" {
  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL" && aws_cloudwatch_log_group.flow.kms_key_id == aws_kms_key.flow_log.arn && aws_kms_key.flow_log.enable_key_rotation
    error_message = "flow logs must hold all traffic, encrypted with a key that rotates"
  }
}

run "two_zones_are_refused" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1b"]
  }

  expect_failures = [var.availability_zones]
}

run "a_block_too_small_for_pods_is_refused" {
  command = plan

  variables {
    cidr = "10.0.0.0/24"
  }

  expect_failures = [var.cidr]
}

run "a_retention_that_cloudwatch_does_not_offer_is_refused" {
  command = plan

  variables {
    flow_log_retention_days = 100
  }

  expect_failures = [var.flow_log_retention_days]
}

run "a_name_that_aws_would_refuse_is_refused" {
  command = plan

  variables {
    name = "Credit_Model"
  }

  expect_failures = [var.name]
}
