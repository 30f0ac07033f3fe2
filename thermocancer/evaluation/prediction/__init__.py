"""A new exam scored with a trained run: gathering its files, judging them, scoring, doubting."""
