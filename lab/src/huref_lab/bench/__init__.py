"""huref beside other methods on pairs of known kinship, and the calibration."""
