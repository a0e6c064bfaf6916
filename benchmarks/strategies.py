"""Which strategy is fastest for which network: the measurements behind the rules in ``quickstudy.nets.strategy``.

    python benchmarks/strategies.py [--device cuda] [--repeats 7] [--rule "own weights"]

One meta-gradient (5-way 1-shot, 5 queries a class, random 28x28 pictures) for each strategy: of a prototypical network,
where all tasks share the weights, and of second-order MAML with one inner step, where each task has its own. Prints
milliseconds a task (of the processor, which other programs disturb least; on a GPU of the clock), the ratio to the loop
of the same run, what ``auto`` takes, and where that is not the fastest by more than a tenth.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from quickstudy import keep_large_blocks
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.learners import MAML, ProtoNet
from quickstudy.learners.learner import AbstractLearner
from quickstudy.nets import MLP, Conv4
from quickstudy.nets.norms import uses_current_rows
from quickstudy.nets.strategy import Strategy, StrategyRecord, recorded

TRIED: tuple[Strategy, ...] = ("loop", "vmap", "batched", "packed")


def plain_convolutions() -> nn.Module:
    """A network that is not ours, so without a form with a task axis."""
    layers: list[nn.Module] = []
    for before, after in ((1, 32), (32, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


@dataclass(frozen=True)
class Case:
    """One network in one use.

    Args:
        rule: the rule that it is behind.
        name: for the table.
        build: the learner with that strategy.
        tasks: how many at once.
    """

    rule: str
    name: str
    build: Callable[[Strategy], AbstractLearner]
    tasks: int


def cases() -> Iterable[Case]:
    """Every rule, with the networks that it is for."""
    coupled: dict[str, Callable[[], nn.Module]] = {
        "conv4 64 max": lambda: Conv4(norm="transductive"),
        "conv4 64 stride": lambda: Conv4(norm="transductive", pool="stride"),
        "mlp 784-40-40": lambda: MLP(784, (40, 40), norm="transductive"),
    }
    alone: dict[str, Callable[[], nn.Module]] = {
        "conv4 64 max": lambda: Conv4(norm="layer"),
        "mlp 784-40-40": lambda: MLP(784, (40, 40)),
    }
    own: dict[str, Callable[[], nn.Module]] = {
        "mlp 784-40-40": lambda: MLP(784, (40, 40)),
        "not ours": plain_convolutions,
    }
    for filters, pool, norm in product((64, 32), ("max", "stride"), ("batch", "task")):
        kind = "transductive" if norm == "batch" else norm
        own[f"conv4 {filters} {pool} {norm}"] = lambda filters=filters, pool=pool, kind=kind: Conv4(  # type: ignore[misc]
            norm=kind, pool=pool, filters=filters
        )
    for rule, nets in (("shared weights, each example alone", alone), ("shared weights, norms over the rows", coupled)):
        for name, net in nets.items():
            for tasks in (4, 16):
                yield Case(rule, name, lambda strategy, net=net: ProtoNet(net(), strategy=strategy), tasks)  # type: ignore[misc]
    for name, net in own.items():
        features = 288 if name == "not ours" else None
        for rule, tasks in (("one task", 1), ("own weights", 4), ("own weights", 16)):

            def maml(
                strategy: Strategy, net: Callable[[], nn.Module] = net, features: int | None = features
            ) -> AbstractLearner:
                built = net()
                batch = uses_current_rows(built)
                return MAML(built, 5, inner_steps=1, out_features=features, strategy=strategy, transductive=batch)

            yield Case(rule, name, maml, tasks)


def episode(n_task: int, device: torch.device) -> Episode:
    """Random 28x28 pictures of five classes."""
    generator = torch.Generator().manual_seed(0)

    def part(rows: int) -> Examples:
        x = torch.rand(n_task, 5 * rows, 1, 28, 28, generator=generator)
        y = torch.arange(5).repeat_interleave(rows).repeat(n_task, 1)
        return Examples(x, y, Classes(torch.full((n_task,), 5)))

    return Episode(part(1), part(5)).to(device)


def seconds(device: torch.device) -> float:
    """The clock to measure with."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def milliseconds_a_task(learner: AbstractLearner, tasks: Episode, device: torch.device, repeats: int) -> float | None:
    """Median over repeats, after one to warm up; None where the strategy does not fit."""
    found = []
    for _ in range(repeats + 1):
        started = seconds(device)
        learner.zero_grad()
        try:
            learner.meta_loss(tasks).loss.sum().backward()  # type: ignore[no-untyped-call]
        except (ValueError, RuntimeError):
            return None
        found.append(seconds(device) - started)
    return 1000 * statistics.median(found[1:]) / tasks.n_task


def chosen(learner: AbstractLearner, tasks: Episode) -> Strategy:
    """What ``auto`` took last, that is for the weights that the case is about."""
    with recorded(StrategyRecord()) as record:
        learner.meta_loss(tasks)
    return record.uses[-1].choice.strategy


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rule", help="only rules whose name has this in it")
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.set_num_threads(1)
    keep_large_blocks()  # as the command line does
    rule = ""
    for case in cases():
        if given.rule and given.rule not in case.rule:
            continue
        if case.rule != rule:
            rule = case.rule
            print(f"\n{rule}, {device}\n{'network':<24}{'tasks':>6}{'loop':>10}", end="")
            print("".join(f"{s:>18}" for s in TRIED[1:]) + "  auto")
        tasks = episode(case.tasks, device)
        times = {}
        for strategy in TRIED:
            took = milliseconds_a_task(case.build(strategy).to(device), tasks, device, given.repeats)
            if took is not None:
                times[strategy] = took
        auto = chosen(case.build("auto").to(device), tasks)
        best = min(times, key=lambda s: times[s])
        late = f" ({best} is faster)" if times[auto] > 1.1 * times[best] else ""
        others = "".join(
            f"{times[s]:>10.2f} ({times[s] / times['loop']:.2f}x)" if s in times else f"{'-':>18}" for s in TRIED[1:]
        )
        print(f"{case.name:<24}{case.tasks:>6}{times['loop']:>10.2f}{others}  {auto}{late}", flush=True)


if __name__ == "__main__":
    main()
