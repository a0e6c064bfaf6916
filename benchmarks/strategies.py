"""Which strategy is fastest for which network, on this machine's CPU: the measurements behind ``choose_strategy``.

    python benchmarks/strategies.py

One second-order MAML meta-gradient (5-way 1-shot, 5 queries a class, one inner step) for each strategy, on random
pictures. Prints processor milliseconds a task (other programs on the machine disturb these least) and the ratio to
the loop of the same run.
"""

from __future__ import annotations

import statistics
import time

import torch

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.learners import MAML
from quickstudy.nets import MLP, Conv4

REPEATS = 7


def episode(n_task: int) -> Episode:
    """Random 28x28 pictures of five classes."""
    generator = torch.Generator().manual_seed(0)

    def part(rows: int) -> Examples:
        x = torch.rand(n_task, 5 * rows, 1, 28, 28, generator=generator)
        y = torch.arange(5).repeat_interleave(rows).repeat(n_task, 1)
        return Examples(x, y, Classes(torch.full((n_task,), 5)))

    return Episode(part(1), part(5))


def milliseconds_a_task(learner: MAML, strategy: str, tasks: Episode) -> float:
    """Median over repeats, after one to warm up."""
    learner.model.strategy = strategy  # type: ignore[assignment]
    found = []
    for _ in range(REPEATS + 1):
        started = time.process_time()
        learner.zero_grad()
        learner.meta_loss(tasks).loss.sum().backward()  # type: ignore[no-untyped-call]
        found.append(time.process_time() - started)
    return 1000 * statistics.median(found[1:]) / tasks.n_task


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    nets = {
        "conv4 64 max": lambda: Conv4(norm="task"),
        "conv4 64 stride": lambda: Conv4(norm="task", pool="stride"),
        "conv4 32 stride": lambda: Conv4(norm="task", pool="stride", filters=32),
        "mlp 784-40-40": lambda: MLP(784, (40, 40)),
    }
    print(f"{'network':<18}{'tasks':>6}{'loop':>12}{'vmap':>20}{'batched':>20}")
    for name, build in nets.items():
        for n_task in (4, 16):
            learner, tasks = MAML(build(), 5, inner_steps=1), episode(n_task)
            times = {s: milliseconds_a_task(learner, s, tasks) for s in ("loop", "vmap", "batched")}
            others = "".join(f"{times[s]:>12.2f} ({times[s] / times['loop']:.2f}x)" for s in ("vmap", "batched"))
            print(f"{name:<18}{n_task:>6}{times['loop']:>12.2f}{others}")


if __name__ == "__main__":
    main()
