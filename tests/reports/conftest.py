"""The command line, for reports."""

from tests.cli.conftest import quickstudy

__all__ = ["quickstudy"]
