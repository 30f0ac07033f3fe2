"""What a person reads: figures, cards, verdict, page."""
