"""Products, rounding and cosines of arrays."""
