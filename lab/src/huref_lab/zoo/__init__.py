"""Language models whose kinship is known."""
