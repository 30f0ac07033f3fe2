"""Sequence networks on dynamic exams."""
