"""Autoencoders: plan, files, quality of reconstruction."""
