"""Rows of the gradient learners."""

from tests.smalltasks import Row

ROWS: list[Row] = []
