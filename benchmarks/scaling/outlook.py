"""Many GPUs: an extrapolation, by assumptions that are said. Nothing here was measured on a GPU or a network.

What a meta-step takes on R ranks, each with a GPU of its own:

    launches     kernels of the passes through the network, one after the other, whatever number of tasks they are for
    tasks        operations of the tasks of the rank that has most
    stragglers   tasks differ in size, and all wait for the rank whose tasks are largest
    gradient     the ring that sums it: twice around, in R-1 messages each
    messages     losses and flags that ranks tell each other in every step (``train/stepping.py``, ``train/engine.py``)
    reading      examples of all tasks come from one storage, ahead of time: only what exceeds the rest counts
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scipy.stats import norm

from benchmarks.scaling.models import Divided

__all__ = ["ASSUMPTIONS", "EXCHANGES", "FLAGS", "Assumption", "Work", "efficiency", "lost", "step", "works"]

EXCHANGES = 1
"""Lists that ranks exchange in a step; each is gathered twice, its sizes first."""
FLAGS = 2
"""Flags that are summed in a step: has anything failed, was anyone asked to stop."""


@dataclass(frozen=True)
class Assumption:
    """A number that is not measured here.

    Args:
        low: the worse end of what is plausible.
        typical: what is assumed.
        high: the better end.
        unit: of these.
        why: where it is from.
    """

    low: float
    typical: float
    high: float
    unit: str
    why: str


ASSUMPTIONS: dict[str, Assumption] = {
    "flops": Assumption(67e12, 67e12, 67e12, "operations a second", "float32 of an H100 SXM, by its data sheet"),
    "share": Assumption(0.1, 0.3, 0.5, "of that reached", "a guess: convolutions of small pictures reach little"),
    "launch": Assumption(
        3e-3, 1e-3, 0.3e-3, "s a pass", "a guess: 100 to 300 kernels, forwards and backwards, of 3 to 10 µs"
    ),
    "bandwidth": Assumption(12.5e9, 25e9, 50e9, "bytes a second and GPU", "network cards of 100, 200, 400 Gbit/s"),
    "hop": Assumption(50e-6, 20e-6, 5e-6, "s a message", "a guess: TCP within one room, and InfiniBand"),
    "spread": Assumption(
        0.4, 0.2, 0.0, "standard deviation of a task, as a share", "ways of 5 to 20 have 0.37; equal tasks 0"
    ),
    "storage": Assumption(
        1e9, 5e9, 20e9, "bytes a second, for all ranks", "a guess: one server, and a parallel file system"
    ),
}
Given = Mapping[str, float]


@dataclass(frozen=True)
class Work:
    """What one task asks for.

    Args:
        name: in words.
        operations: multiplications and additions of one task.
        passes: through the network, forwards and backwards, one after the other.
        weights: numbers that are trained.
        read: bytes of one task's examples.
    """

    name: str
    operations: float
    passes: float
    weights: float
    read: float


def works(factors: Mapping[str, Mapping[str, float]]) -> list[Work]:
    """A small, a middling and a large network.

    Args:
        factors: of each learner, as ``points.operations`` counts them.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from quickstudy.nets.conv4 import Conv4
    from quickstudy.nets.resnet12 import ResNet12

    found = []
    for name, net, learner, steps, shot in (
        ("MAML, Conv-4-64, 5 steps", Conv4(3, 84), "MAML", 5, 1),
        ("ProtoNet, ResNet-12", ResNet12(3, 84), "ProtoNet", 0, 5),
    ):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net.eval()(torch.zeros(1, 3, 84, 84))
        one = float(counter.get_total_flops())
        found.append(
            _work(name, one, sum(p.numel() for p in net.parameters()), factors[learner], steps, shot, 3 * 84**2)
        )
    # ViT-B/16 at 224 pixels, as torchvision's table has it: 17.56 GMAC, 86.6 million weights.
    found.append(_work("FOMAML, ViT-B/16, 5 steps", 2 * 17.56e9, 86.6e6, factors["FOMAML"], 5, 1, 3 * 224**2))
    return found


def _work(
    name: str, one: float, weights: float, factors: Mapping[str, float], steps: int, shot: int, size: int
) -> Work:
    """5-way tasks of 15 query examples a class; ``one`` is one example's pass forwards, ``size`` its bytes."""
    support, query = 5 * shot, 5 * 15
    inner, outer = steps * factors["inner"], factors["outer"]
    # A pass, forwards and backwards, is three times what goes forwards.
    return Work(name, one * (inner * support + outer * query), (inner + outer) / 3, weights, size * (support + query))


def step(work: Work, tasks: int, ranks: int, given: Given) -> dict[str, float]:
    """Seconds of a meta-step, by what they are spent on.

    Args:
        work: of each task.
        tasks: of the step.
        ranks: that share them.
        given: a number for each of :data:`ASSUMPTIONS`.
    """
    divided = Divided(ranks, tasks, round(work.weights))
    task = work.operations / (given["flops"] * given["share"])
    found = {"launches": work.passes * given["launch"], "tasks": divided.mine * task}
    # The expected largest of as many normal numbers (Blom 1958), of ranks that have tasks: one has nobody to wait for.
    busy = min(ranks, tasks)
    largest = float(norm.ppf((busy - 0.375) / (busy + 0.25))) if busy > 1 else 0.0
    found["stragglers"] = given["spread"] * math.sqrt(divided.mine) * task * largest
    found["gradient"] = divided.ring_bytes / given["bandwidth"] + 2 * (ranks - 1) * given["hop"]
    found["messages"] = (2 * EXCHANGES + 2 * FLAGS) * (ranks - 1) * given["hop"]
    found["reading"] = max(0.0, tasks * work.read / given["storage"] - sum(found.values()))
    return found


def lost(work: Work, tasks: Callable[[int], int], ranks: int, given: Given) -> dict[str, float]:
    """Seconds of a step beyond its share of what as many single ranks would take, by what they are lost to.

    Args:
        work: of each task.
        tasks: of a step, by the number of ranks.
        ranks: how many.
        given: as of :func:`step`.
    """
    mine, alone = (step(work, tasks(n), n, given) for n in (ranks, 1))
    share = tasks(ranks) / (ranks * tasks(1))
    found = {name: seconds - alone[name] * share for name, seconds in mine.items()}
    found["too few tasks"] = found.pop("tasks")  # some ranks have fewer, or none
    return found


def efficiency(
    work: Work, tasks: Callable[[int], int], ranks: int, assumptions: Mapping[str, Assumption]
) -> tuple[float, float, float]:
    """Work done a second, as a share of what as many single ranks would do: typical, and the ends of what is plausible.

    Args:
        work: of each task.
        tasks: of a step, by the number of ranks.
        ranks: how many.
        assumptions: by their names; every combination of their ends is tried.
    """

    def of(given: Given) -> float:
        alone, mine = (sum(step(work, tasks(n), n, given).values()) / tasks(n) for n in (1, ranks))
        return alone / (ranks * mine)

    ends = [
        of(dict(zip(assumptions, each, strict=True)))
        for each in itertools.product(*({one.low, one.high} for one in assumptions.values()))
    ]
    typical = of({name: one.typical for name, one in assumptions.items()})
    return typical, min([*ends, typical]), max([*ends, typical])
