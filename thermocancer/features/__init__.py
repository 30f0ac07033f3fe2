"""Encoder features, Gram matrices, thermal statistics and asymmetry."""
