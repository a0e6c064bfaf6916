"""How many tasks a second one process draws, on one thread.

    python benchmarks/sampling.py [--data-root FOLDER] [--rotations classes] [--way 5 --shot 1 --query 15]

The promise is 20,000 Omniglot 5-way 1-shot 15-query tasks a second. Beside it stands what one would write without
thinking: a loop over tasks that picks with NumPy's generator and copies pictures one class at a time.
Without Omniglot's files, `--made-up` measures on noise of the same size.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.omniglot import Omniglot
from quickstudy.data.store import ArrayStore
from quickstudy.errors import QuickstudyError


def rate(draw: Callable[[range], object], at_once: int, seconds: float) -> float:
    """Tasks a second of processor time, which a busy machine does not change much; the best of three."""
    draw(range(at_once))
    best = 0.0
    for _ in range(3):
        first, start = 0, time.process_time()
        while (passed := time.process_time() - start) < seconds:
            draw(range(first, first + at_once))
            first += at_once
        best = max(best, first / passed)
    return best


def plain(store: ArrayStore, classes: list[int], way: int, shot: int, query: int) -> Callable[[range], torch.Tensor]:
    """The sampler one would write first."""
    random, images = np.random.default_rng(0), np.asarray(store.images)

    def draw(tasks: range) -> torch.Tensor:
        drawn = []
        for _ in tasks:
            for number in random.choice(classes, way, replace=False):
                rows = store.starts[number] + random.choice(store.sizes[number], shot + query, replace=False)
                drawn.append(images[rows])
        return torch.from_numpy(np.stack(drawn)).view(len(tasks), -1, *images.shape[1:])

    return draw


def made_up() -> ArrayStore:
    """Noise of Omniglot's size."""
    noise = np.random.default_rng(0).integers(0, 256, (1623, 20, 28, 28), dtype=np.uint8)
    return ArrayStore.from_classes({str(number): pictures for number, pictures in enumerate(noise)})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--made-up", action="store_true", help="noise instead of Omniglot")
    parser.add_argument("--rotations", default="classes", choices=["none", "classes", "per-class", "per-task"])
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--query", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    given = parser.parse_args()

    torch.set_num_threads(1)
    try:
        store = made_up() if given.made_up else Omniglot(given.data_root).store
    except QuickstudyError as error:
        sys.exit(f"error: {error} Or say --made-up.")
    classes = list(range(1200))
    sizes = {"way": given.way, "shot": given.shot, "query": given.query}
    tasks = ClassTasks(store, classes, data="omniglot", split="train", seed=0, rotations=given.rotations, **sizes)
    print(f"{sizes}, rotations {given.rotations}, one thread")
    print(f"{'tasks at once':>13} {'tasks/s':>9}")
    for at_once in (1, 4, 16, 32, 64, 128, 256):
        print(f"{at_once:>13} {rate(tasks.episodes, at_once, given.seconds):>9,.0f}")
    print(f"{'plain loop':>13} {rate(plain(store, classes, **sizes), 32, given.seconds):>9,.0f}")


if __name__ == "__main__":
    main()
