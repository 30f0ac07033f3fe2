"""Classifiers of single images (second original study)."""
