"""Rows of the transductive learners."""

from tests.smalltasks import Row

ROWS: list[Row] = []
