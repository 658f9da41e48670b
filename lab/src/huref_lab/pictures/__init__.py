"""Folders of photographs, and networks that measure pictures."""
