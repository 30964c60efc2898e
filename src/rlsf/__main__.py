"""``python -m rlsf``: the command line."""

from rlsf.cli import main

main()
