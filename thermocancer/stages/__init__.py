"""The stages of the road, one module a command: plan, work, commit."""
