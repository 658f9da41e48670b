"""The paper: recipe, invariant terms, and the 512 numbers made of them."""
