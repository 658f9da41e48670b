"""Small language models trained on public texts."""
