"""`python -m huref`."""

from huref.cli.app import main

main()
