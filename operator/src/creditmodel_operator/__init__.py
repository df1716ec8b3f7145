"""Kopf operator that gates, rolls and watches credit-scoring models."""
