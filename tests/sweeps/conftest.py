"""The command line, for sweeps."""

from tests.cli.conftest import quickstudy

__all__ = ["quickstudy"]
