"""Metrics, intervals, audits, figures and reports."""
