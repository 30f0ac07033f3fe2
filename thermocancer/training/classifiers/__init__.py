"""The classifiers: what each fits, and how each is written down without pickle."""
