"""What a hundred million examples cost: opening, memory and sampling, beside a small store in the same process.

    python benchmarks/bigstore.py [--classes 1000000] [--each 100] [--indexed 1000000]

The first two rows are of a computed store, whose examples are a function of their numbers; the others of an index, with
as many examples as ``--indexed`` says and with a twentieth of these, fifty a class, built here and thrown away. Times
are of this process on one thread, the best of five; memory is what the process grew by.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from quickstudy.data.big.building import Plan, build
from quickstudy.data.big.computed import ComputedStore, noise
from quickstudy.data.big.dividing import by_names
from quickstudy.data.big.entries import Entry
from quickstudy.data.big.index import Index
from quickstudy.data.big.streamed import StreamedStore
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.rowstore import Rows, RowStore

_SIDE = 28
_EACH = 50  # examples a class of an index


def resident() -> float:
    """MiB of this process that lie in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def opened(name: str, make: Callable[[], RowStore]) -> tuple[ClassTasks, float, float]:
    """Tasks of a store; the seconds until the first was drawn, and the MiB that took."""
    before, start = resident(), time.perf_counter()
    store = make()
    classes = np.arange(len(store.classes))
    tasks = ClassTasks(store, classes, data=name, split="train", way=5, shot=1, query=15, seed=0)
    tasks.episodes(range(1))
    return tasks, time.perf_counter() - start, resident() - before


def sampling(tasks: ClassTasks, calls: int) -> tuple[float, float]:
    """Microseconds a task, eight at once; and the MiB that five times as many calls left."""
    best, before, at = float("inf"), resident(), 0
    for _ in range(5):
        start = time.process_time()
        for _ in range(calls):
            tasks.episodes(range(at, at + 8))
            at += 8
        best = min(best, time.process_time() - start)
    return best / calls / 8 * 1e6, resident() - before


def index_of(folder: Path, n: int) -> tuple[float, float]:
    """Build an index of n made-up examples; seconds, and MiB on the disk."""

    def entries() -> Iterator[Entry]:
        for number in range(n):
            group = f"class {number * 7919 % (n // _EACH):08}"
            yield Entry(group, f"{number:09}.jpg", 0, 0, 8, number.to_bytes(8, "big"))

    def content(entry: Entry) -> bytes:
        return entry.content or b""

    start = time.perf_counter()
    build(folder, Plan(entries(), content, lambda source, key: key, by_names))
    return time.perf_counter() - start, sum(path.stat().st_size for path in folder.iterdir()) / 2**20


def streamed(folder: Path) -> StreamedStore:
    """An index whose examples cost nothing to read: what is left is to find them."""
    grey = np.zeros((_SIDE, _SIDE), dtype=np.uint8)

    def decode(content: bytes, name: str) -> Rows:
        del content, name
        return grey

    return StreamedStore(Index.open(folder), grey.shape, lambda *place: b"01234567", decode, lambda source, key: key)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--indexed", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=100, help="of eight tasks, in each of five measurements")
    given = parser.parse_args()
    torch.set_num_threads(1)
    make = noise((_SIDE, _SIDE))
    opened("warm", lambda: ComputedStore(10, given.each, make, name="noise"))  # kernels are compiled, modules loaded

    print("| store | examples | classes | opened, s | memory, MiB | a task, µs | growth, MiB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        small, large = Path(place) / "small", Path(place) / "large"
        built = {path: index_of(path, n) for path, n in ((small, given.indexed // 20), (large, given.indexed))}
        stores: list[tuple[str, Callable[[], RowStore]]] = [
            ("computed", lambda: ComputedStore(1000, given.each, make, name="noise")),
            ("computed", lambda: ComputedStore(given.classes, given.each, make, name="noise")),
            ("indexed", lambda: streamed(small)),
            ("indexed", lambda: streamed(large)),
        ]
        per_task = []
        for name, store in stores:
            tasks, seconds, memory = opened(name, store)
            each, growth = sampling(tasks, given.calls if name == "computed" else max(1, given.calls // 5))
            per_task.append(each)
            n, classes = int(tasks.store.starts[-1]), len(tasks.store.classes)
            print(f"| {name} | {n:,} | {classes:,} | {seconds:.2f} | {memory:.0f} | {each:.0f} | {growth:.1f} |")
    computed, indexed = per_task[1] / per_task[0], per_task[3] / per_task[2]
    print("\nSampling from the large store takes so many times what the small one does:", end=" ")
    print(f"{computed:.2f} computed, {indexed:.2f} indexed.")
    seconds, size = built[large]
    print(f"The index of {given.indexed:,} examples was built in {seconds:.0f} s, {size:.0f} MiB on the disk.")


if __name__ == "__main__":
    main()
