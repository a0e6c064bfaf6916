"""Rows of a table, in C as in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy import native
from quickstudy.data.gather import gather


@pytest.mark.parametrize("which", native.KERNELS)
@given(rows=st.lists(st.integers(0, 30), max_size=50), size=st.integers(1, 200), step=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_it_is_what_indexing_gives(which: native.Kernels, rows: list[int], size: int, step: int) -> None:
    table = np.random.default_rng(0).integers(0, 256, (31, size), dtype=np.uint8)
    wanted = np.array(rows, dtype=np.int64)[::step]
    with native.kernels(which):
        found = gather(table, wanted)
    assert found.dtype == np.uint8 and found.flags.c_contiguous and found.flags.writeable
    assert np.array_equal(found, table[wanted])


def test_c_is_what_computes_where_it_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above compares NumPy with itself."""
    from quickstudy.data import gather as module

    with native.kernels("c"):
        assert module._compiled() is not None
    monkeypatch.setattr(module, "_compiled", lambda: pytest.fail("asked for"))
    with native.kernels("torch"):
        gather(np.zeros((1, 1), dtype=np.uint8), np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize("which", native.KERNELS)
def test_tables_and_rows_of_any_layout(which: native.Kernels) -> None:
    table = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    rows = np.array([3, 1, 0, 1, 9, 1])[::2]
    with native.kernels(which):
        for some in (table[::2], table[:, ::3], table.T, table):
            assert np.array_equal(gather(some, rows), some[rows])


@pytest.mark.parametrize("which", native.KERNELS)
@pytest.mark.parametrize("row", [5, 2**60, -(2**60), -6])
def test_a_row_that_is_not_there(which: native.Kernels, row: int) -> None:
    """Also where it is asked for ahead of its turn."""
    table = np.zeros((5, 3), dtype=np.uint8)
    with native.kernels(which):
        for rows in ([row], [0, row, 1], [0] * 20 + [row]):
            with pytest.raises(IndexError):
                gather(table, np.array(rows))
