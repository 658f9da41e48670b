"""`python -m huref`."""

from huref.cli.entry import main

main()
