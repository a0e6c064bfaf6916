"""Rows of the memory learners."""

from tests.smalltasks import Row

ROWS: list[Row] = []
