"""Rows of the metric learners."""

from tests.smalltasks import Row

ROWS: list[Row] = []
