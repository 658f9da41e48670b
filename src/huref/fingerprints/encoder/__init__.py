"""The official CNN encoder: network, weights file, conversion."""
