"""Field, curve, transcript, and the equations that proofs are made of."""
