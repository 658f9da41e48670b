"""A plain forward pass from canonical weights: what a model answers, for checks of attacks and for training."""
