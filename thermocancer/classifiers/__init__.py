"""What decides: one folder or module a family of classifiers."""
