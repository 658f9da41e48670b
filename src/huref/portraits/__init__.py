"""Fingerprints as pictures that people compare by eye."""
