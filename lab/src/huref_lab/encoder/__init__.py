"""The CNN encoder: synthetic samples, training, evaluation."""
