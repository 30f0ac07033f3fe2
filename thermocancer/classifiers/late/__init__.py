"""Late fusion: one decision from several finished runs."""
