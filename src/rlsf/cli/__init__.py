"""The command line: ``rlsf``."""

from rlsf.cli.app import main

__all__ = ["main"]
