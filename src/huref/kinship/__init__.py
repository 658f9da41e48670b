"""Two models: scores, alignment, verdict."""
