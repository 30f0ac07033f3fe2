"""Figures of scores and their intervals."""
