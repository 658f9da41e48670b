"""The command line: parse, one call of the front door, render."""
