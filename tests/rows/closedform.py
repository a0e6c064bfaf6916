"""Rows of the closedform learners."""

from tests.smalltasks import Row

ROWS: list[Row] = []
