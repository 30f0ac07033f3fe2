"""The audit beside every model: what else could have told the label, and what remains without it."""
