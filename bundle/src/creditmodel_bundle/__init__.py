"""Formats shared by every part of CreditModel: bundle, data contract, measurement."""
