"""A hundred million examples in a million classes: counts and limits here, times in ``benchmarks/bigstore.py``."""

import runpy
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from quickstudy.data.big.computed import ComputedStore, noise
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.data.store import ArrayStore
from quickstudy.errors import InputError
from quickstudy.keys import Integers
from tests.data.big.made import RAGGED, SMALL, alike, same

MAKE = noise((6, 5))


def tasks_of(store: ComputedStore | ArrayStore, n: int, **changes: object) -> ClassTasks:
    sizes = {"way": 5, "shot": 1, "query": 15, "seed": 0} | changes
    return ClassTasks(store, np.arange(n), data="computed", split="train", **sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [SMALL, RAGGED])
def test_tasks_are_those_of_the_same_examples_in_memory(sizes: dict[str, object]) -> None:
    computed = ComputedStore(30, 7, MAKE, name="noise")
    rows = computed.look_up()(np.arange(210)).reshape(30, 7, 6, 5)
    held = ArrayStore.from_classes({f"class {n:02}": rows[n] for n in range(30)})
    assert list(computed.classes) == list(held.classes) and computed.classes[1:3] == ["class 01", "class 02"]
    one, other = tasks_of(computed, 30, **sizes), tasks_of(held, 30, **sizes)
    assert alike(one.episodes(range(9)), other.episodes(range(9)))
    assert all(same(one.batches(50).batch(step), other.batches(50).batch(step)) for step in range(6))
    assert one.shape == other.shape and one.hash != other.hash


def test_a_hundred_million_examples_cost_what_their_classes_do() -> None:
    """24 bytes a class, at most twice that; nothing an example, and nothing a task."""
    calls = 0

    def make(classes: Integers, members: Integers) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        nonlocal calls
        calls += len(classes)
        return MAKE(classes, members)

    def counted(each: int) -> tuple[int, int, int]:
        nonlocal calls
        tracemalloc.start()
        try:
            tasks = tasks_of(ComputedStore(1_000_000, each, make, name="noise"), 1_000_000)
            opened = tracemalloc.get_traced_memory()[0]
            calls = 0
            for first in range(0, 400, 8):
                tasks.episodes(range(first, first + 8))
            return opened, tracemalloc.get_traced_memory()[0] - opened, calls
        finally:
            tracemalloc.stop()

    (opened, grown, made), (opened_small, _, made_small) = counted(100), counted(30)
    assert opened < 48e6 and abs(opened - opened_small) < 1e6, "what is kept hangs on the classes alone"
    assert grown < 1e6
    assert made == made_small == 400 * 5 * 16, "no example is made that no task asks for"


def test_all_examples_of_large_classes_are_drawn_from() -> None:
    store = ComputedStore(3, 1_000_000, MAKE, name="noise")
    draw = tasks_of(store, 3, way=3, shot=5, query=5)._draw(np.arange(200))
    rows = draw.rows.reshape(-1)
    assert len(np.unique(rows // 1_000_000)) == 3
    within = rows % 1_000_000
    assert len(np.unique(within)) > 0.98 * len(within) and within.max() > 990_000 and within.min() < 10_000


def test_a_class_can_be_learned() -> None:
    store = ComputedStore(1000, 50, noise((16, 16)), name="noise")
    x = store.look_up()(np.arange(200)).reshape(4, 50, -1).astype(np.int64)
    alike_share = (x[:, :1] == x[:, 1:]).mean()
    assert 0.7 < alike_share < 0.85 and (x[0] == x[1]).mean() < 0.05


def test_what_cannot_be_made() -> None:
    with pytest.raises(InputError, match="Cannot make 0 classes of 5 examples"):
        ComputedStore(0, 5, MAKE, name="noise")
    with pytest.raises(InputError, match=r"what the function 'odd' makes: expected uint8 .*received float64 \[1, 3\]"):
        ComputedStore(2, 5, lambda classes, members: np.zeros((len(classes), 3)), name="odd")  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="Cannot turn computed pictures"):
        PictureTasks(
            ComputedStore(9, 5, noise((4, 4)), name="noise"),
            range(9),
            data="x",
            split="train",
            rotations="classes",
            **SMALL,
        )


def test_the_benchmark_prints_its_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "bigstore.py"
    sizes = ["--classes", "3000", "--each", "50", "--indexed", "6000", "--calls", "2"]
    monkeypatch.setattr(sys, "argv", [str(script), *sizes])
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "| computed | 150,000 | 3,000 |" in printed and "| indexed | 6,000 | 120 |" in printed
    assert "what the small one does" in printed and "nan" not in printed
