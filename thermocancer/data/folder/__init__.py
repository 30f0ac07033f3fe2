"""Importing a folder somebody already has: which file is which exam, under which label."""
