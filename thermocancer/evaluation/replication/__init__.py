"""The original study's rows, made again."""
