"""A model reference in, canonical weights and a vocabulary out."""
