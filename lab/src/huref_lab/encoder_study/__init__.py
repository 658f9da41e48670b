"""Real models on which encoders and readers are measured."""
