output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Ids of the private subnets, in the order of the zones: nodes, pods and the cluster's network interfaces."
  value       = [for zone in var.availability_zones : aws_subnet.private[zone].id]
}

output "public_subnet_ids" {
  description = "Ids of the public subnets, in the order of the zones: load balancers and NAT gateways only."
  value       = [for zone in var.availability_zones : aws_subnet.public[zone].id]
}

output "nat_addresses" {
  description = "Public addresses that the cluster's outgoing traffic comes from, for allow lists elsewhere."
  value       = [for address in aws_eip.nat : address.public_ip]
}
