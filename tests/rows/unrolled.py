"""Rows of the unrolled learners."""

from tests.smalltasks import Row

ROWS: list[Row] = []
