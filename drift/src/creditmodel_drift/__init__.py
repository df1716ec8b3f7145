"""Drift and quality checks with Evidently reports."""
