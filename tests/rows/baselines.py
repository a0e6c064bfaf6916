"""Rows of the baselines learners."""

from tests.smalltasks import Row

ROWS: list[Row] = []
