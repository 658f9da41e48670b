"""The official CNN encoder: network, weights file, conversion."""

HOW_TO_GET = "train them with `huref train encoder`, or convert your own with `huref encoder convert`"
"""Its weights: huref brings none."""
