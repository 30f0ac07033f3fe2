"""Devices, backends, precision and seeds."""
