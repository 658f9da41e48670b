"""The main job on a real model, and relatives of it made on the spot."""
