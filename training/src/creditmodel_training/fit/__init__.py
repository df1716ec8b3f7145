"""Fitting the network: basis, interactions, training loop, calibration."""
