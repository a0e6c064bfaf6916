"""Whether it pays to exchange gradients in buckets, or while they are still being computed.

    python benchmarks/exchange.py [--rounds 7] [--ranks 2] [--width 180 580 1820]

Each rank computes a step of two tasks of an MLP of three square layers, as a prototypical network (whose gradients are
whole one after the other along the backward pass) and by MAML with two inner steps. Prints, for each size, the median
milliseconds of the step without any exchange; how many times longer it is with one buffer after the backward pass, as
``train/ranks_state.py`` does it; and how long it is, against that one, with buckets after the pass, all under way at
once, and with buckets during it, each sent once the gradients in it are whole, as torch's DistributedDataParallel does.
These are medians of the ratios of each round, with their quartiles: above 1 is slower. The last column says which share
of the backward pass was over when the first gradient was whole: before, there is nothing to send. Ways take turns, so
that a slow minute of the machine meets all of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # ranks import this file as benchmarks.exchange

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from quickstudy.doctor.smalltasks import FEATURES, small_tasks
from quickstudy.keys import Key, Keys
from quickstudy.learners import MAML, AbstractLearner, ProtoNet
from quickstudy.nets import MLP
from quickstudy.train.ranks import AbstractRanks
from quickstudy.train.ranks_messages import Job
from quickstudy.train.ranks_state import add_gradients

LEARNERS: dict[str, Callable[[MLP], AbstractLearner]] = {
    "protonet": ProtoNet,
    "maml": lambda net: MAML(net, 3, inner_steps=2, inner_lr=0.01),
}
MB = 1 << 20
AFTER, DURING = (1, 4, 25), (4, 25)  # MB of a bucket; 25 is torch's own


@dataclass
class Buckets:
    """Gradients on their way to the other ranks, some of them together.

    Args:
        parameters: of the learner.
        size: bytes of a bucket.
    """

    parameters: Sequence[nn.Parameter]
    size: int

    def __post_init__(self) -> None:
        self.under_way: list[tuple[list[nn.Parameter], Tensor, dist.Work]] = []
        self.open: list[nn.Parameter] = []

    def add(self, parameter: nn.Parameter) -> None:
        """Its gradient is whole."""
        self.open.append(parameter)
        if sum(p.numel() * p.element_size() for p in self.open) >= self.size:
            self.send()

    def send(self) -> None:
        """What is there is on its way."""
        if self.open:
            flat = torch.cat([p.grad.reshape(-1) for p in self.open if p.grad is not None])
            work = dist.all_reduce(flat, async_op=True)
            assert work is not None
            self.under_way.append((self.open, flat, work))
            self.open = []

    def wait(self) -> None:
        """All have arrived."""
        self.send()
        for some, flat, work in self.under_way:
            work.wait()
            for parameter, part in zip(some, flat.split([p.numel() for p in some]), strict=True):
                parameter.grad = part.view_as(parameter)
        self.under_way.clear()


class Step:
    """One step of a learner on this rank, exchanged in one of several ways."""

    def __init__(self, ranks: AbstractRanks, kind: str, width: int) -> None:
        torch.manual_seed(0)
        self.ranks, self.learner = ranks, LEARNERS[kind](MLP(FEATURES, (width,) * 4))
        self.parameters = list(self.learner.parameters())
        self.episode = small_tasks(n_task=2, dtype=torch.float32)
        self.keys = Keys(Key.of(0, "exchange"), np.arange(2))

    def seconds(self, way: str, size: int) -> float:
        """How long it takes until all gradients are summed."""
        buckets, hooks = Buckets(self.parameters, size * MB), []
        if way == "during":
            hooks = [p.register_post_accumulate_grad_hook(buckets.add) for p in self.parameters]
        self.learner.zero_grad()
        self.ranks.any(False)  # all begin together
        began = time.perf_counter()
        self.learner.meta_loss(self.episode, key=self.keys).loss.sum().backward()  # type: ignore[no-untyped-call]
        if way == "one buffer":
            add_gradients(self.ranks, self.parameters, [True] * len(self.parameters))
        if way == "after":
            for parameter in reversed(self.parameters):
                buckets.add(parameter)
        buckets.wait()
        took = time.perf_counter() - began
        for hook in hooks:
            hook.remove()
        return took

    def first_whole(self) -> float:
        """Which share of the backward pass was over when the first gradient was whole."""
        times: list[float] = []
        hooks = [
            p.register_post_accumulate_grad_hook(lambda _: times.append(time.perf_counter())) for p in self.parameters
        ]
        self.learner.zero_grad()
        loss = self.learner.meta_loss(self.episode, key=self.keys).loss.sum()
        began = time.perf_counter()
        loss.backward()  # type: ignore[no-untyped-call]
        ended = time.perf_counter()
        for hook in hooks:
            hook.remove()
        return (min(times) - began) / (ended - began)


WAYS = [("none", 0), ("one buffer", 0), *(("after", size) for size in AFTER), *(("during", size) for size in DURING)]


def measure(
    ranks: AbstractRanks, starter: object, kind: str, width: int, rounds: int
) -> tuple[int, list[list[float]], float]:
    """Parameters; seconds of each way, by round; the share of :meth:`Step.first_whole`."""
    del starter
    step = Step(ranks, kind, width)
    for way in WAYS:
        step.seconds(*way)
    found = [[step.seconds(*way) for way in WAYS] for _ in range(rounds)]
    return sum(p.numel() for p in step.parameters), found, statistics.median(step.first_whole() for _ in range(5))


def ratios(found: list[float]) -> str:
    """Their median and quartiles."""
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--width", type=int, nargs="+", default=[180, 580, 1820], help="0.1, 1 and 10 million weights")
    given = parser.parse_args()
    numbers = [("rounds", given.rounds, 2), ("ranks", given.ranks, 2), *(("width", width, 1) for width in given.width)]
    for option, number, least in numbers:
        if number < least:
            parser.error(f"--{option}: expected a whole number of at least {least}, received {number}")
    from benchmarks import exchange as importable  # not __main__, which other processes cannot import
    from quickstudy.train.ranks_launch import run_ranks

    print(f"torch {torch.__version__}; {given.ranks} ranks of one thread; medians of {given.rounds} rounds")
    heads = ["compute", *(way if not size else f"{way} {size} MB" for way, size in WAYS[1:]), "first whole at"]
    print(f"{'learner':<10}{'weights':>12}" + "".join(f"{head:>19}" for head in heads))
    for kind in LEARNERS:
        for width in given.width:
            job = Job(importable.measure, (kind, width, given.rounds), "cpu", 1)
            number, found, share = run_ranks(job, given.ranks)
            cells = [f"{1000 * statistics.median(times[0] for times in found):.1f} ms"]
            cells.append(ratios([times[1] / times[0] for times in found]))
            cells += [ratios([times[at] / times[1] for times in found]) for at in range(2, len(WAYS))]
            cells.append(f"{share:.0%}")
            print(f"{kind:<10}{number:>12,}" + "".join(f"{cell:>19}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
