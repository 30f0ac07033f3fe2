"""Fitting, checkpoints, exact resume, cross-validation."""
