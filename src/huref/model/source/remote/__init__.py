"""Models elsewhere: what names them, what they hold, and the bytes of them that are asked for."""
