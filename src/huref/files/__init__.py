"""What every file that huref writes or reads has in common."""
