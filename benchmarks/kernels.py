"""What Conv-4's kernels cost beside their plain forms, and where a meta-step's time goes: behind benchmarks/NOTES.md.

    python benchmarks/kernels.py

One thread, processor milliseconds, the least of several. Maps are those of Conv-4-64's first two blocks on five and on
75 pictures of 28x28.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import profile

from quickstudy import keep_large_blocks
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.learners import FOMAML, MAML, AbstractLearner
from quickstudy.native import about, kernels
from quickstudy.nets import Conv4
from quickstudy.nets.conv4 import ConvBlock
from quickstudy.nets.convolution import conv2d, products
from quickstudy.nets.summary import moments

CONVOLUTIONS = (
    "aten::convolution_backward",
    "aten::mkldnn_convolution",
    "aten::_convolution",
    "aten::cudnn_convolution",
    # Ours, which compute within.
    *("_Convolution", "_ConvolutionBackward", "_Products", "_ProductsBackward"),
)


def least(work: Callable[[], object], repeats: int = 9) -> float:
    """Processor milliseconds of the quickest of several calls."""
    work()
    found = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return 1000 * min(found)


def line(what: str, ours: Callable[[], object], plain: Callable[[], object], name: str) -> None:
    """Ours beside another form."""
    mine, theirs = least(ours), least(plain)
    print(f"  {what:<44}{mine:>9.3f}   {name:<34}{theirs:>9.3f}   {theirs / mine:.1f}x")


def maps(rows: int, side: int) -> None:
    """One map, read in several ways."""
    x = torch.randn(rows, 64, side, side).contiguous(memory_format=torch.channels_last)
    last, first, ones = torch.randn_like(x), torch.randn(x.shape), torch.ones(64)
    _, mean, inverse = torch.native_batch_norm(x, ones, ones, None, None, True, 0.0, 1e-5)

    def norm_backward(cotangent: Tensor) -> object:
        return torch.ops.aten.native_batch_norm_backward(
            cotangent, x, ones, None, None, mean, inverse, True, 1e-5, [True, True, True]
        )

    print(f"{rows} maps of 64x{side}x{side}")
    line("moments, two plain passes", lambda: moments(x), lambda: torch.var_mean(x, (2, 3)), "torch.var_mean")
    line(
        "batch norm's derivative, channels-last",
        lambda: norm_backward(last),
        lambda: norm_backward(first),
        "its cotangent channels-first",
    )


def convolutions(rows: int, channels: int, side: int, stride: int) -> None:
    """A convolution's value, its derivatives and its second derivative, ours in C beside torch's."""
    x = torch.randn(rows, channels, side, side).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3)
    dy = torch.randn_like(F.conv2d(x, weight, None, stride, 1)).contiguous(memory_format=torch.channels_last)

    def torchs(*asked: bool) -> object:
        return torch.ops.aten.convolution_backward(
            dy, x, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, [*asked, False]
        )

    def ours(*asked: bool) -> object:
        return products(dy, x, weight, (stride, 1, 1), asked)  # type: ignore[arg-type]

    taps = 2 * 9 * channels**2 * dy.shape[0] * dy.shape[2] * dy.shape[3]
    print(
        f"convolution of {rows} maps of {channels}x{side}x{side}, stride {stride}: {taps / 1e6:.0f} million operations"
    )
    line("value", lambda: conv2d(x, weight, stride, 1), lambda: F.conv2d(x, weight, None, stride, 1), "torch")
    line("derivative in the map", lambda: ours(True, False), lambda: torchs(True, False), "torch")
    line("derivative in the weights", lambda: ours(False, True), lambda: torchs(False, True), "torch")
    line(
        "to the second derivative",
        lambda: second(lambda a, b: conv2d(a, b, stride, 1), x, weight),
        lambda: second(lambda a, b: F.conv2d(a, b, None, stride, 1), x, weight),
        "torch",
    )


def second(convolve: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> object:
    """A second derivative through a convolution."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    first = torch.autograd.grad(convolve(x, weight).square().sum(), (x, weight), create_graph=True)
    return torch.autograd.grad(sum((g.square().sum() for g in first), torch.zeros(())), (x, weight))


def blocks(rows: int, side: int, inputs: int) -> None:
    """A block of Conv-4 with its kernels in C and in torch's operators: the value, and both derivatives."""
    x = torch.rand(rows, inputs, side, side).contiguous(memory_format=torch.channels_last)
    block = ConvBlock(inputs, 64, "max", "transductive")
    x.requires_grad_(inputs == 64)
    weights = [*block.parameters(), *([x] if x.requires_grad else [])]

    def value() -> Tensor:
        return block(x)  # type: ignore[no-any-return]

    def first() -> list[Tensor]:
        return list(torch.autograd.grad(value().square().sum(), weights, create_graph=True))

    def both() -> object:
        return torch.autograd.grad(sum((g.square().sum() for g in first()), torch.zeros(())), weights)

    for what, work in (("value", value), ("and derivative", first), ("and the second", both)):
        with kernels("torch"):
            plain = least(work)
        in_c = least(work)
        name = f"{rows} of {inputs}x{side}x{side}, {what}"
        print(f"  {name:<44}{in_c:>9.3f}   {'torch':<34}{plain:>9.3f}   {plain / in_c:.1f}x")


def shares(name: str, learner: AbstractLearner) -> None:
    """How much of a meta-step is convolutions, and how many operators it calls."""
    generator = torch.Generator().manual_seed(0)

    def part(rows: int) -> Examples:
        x, y = torch.rand(1, 5 * rows, 1, 28, 28, generator=generator), torch.arange(5).repeat_interleave(rows)[None]
        return Examples(x, y, Classes(torch.tensor([5])))

    episode = Episode(part(1), part(15))

    def step() -> None:
        learner.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]

    whole = least(step)
    with profile() as seen:
        step()
    events = seen.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    convolving = sum(event.self_cpu_time_total for event in events if event.key in CONVOLUTIONS)
    calls = sum(event.count for event in events if event.key.startswith("aten::"))
    print(
        f"{name:<10}{whole:>8.1f} ms a task, {100 * convolving / total:.0f} % in convolutions, {calls:,} operator calls"
    )


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    keep_large_blocks()
    for rows, side in ((5, 28), (5, 14), (75, 28), (75, 14)):
        maps(rows, side)
    for rows in (5, 75):
        for channels, side, stride in ((64, 14, 1), (64, 7, 1), (64, 3, 1), (32, 42, 1), (64, 14, 2), (64, 7, 2)):
            convolutions(rows, channels, side, stride)
    print(f"blocks of Conv-4, kernels: {about()}")
    for rows in (5, 75):
        for side, inputs in ((28, 1), (14, 64)):
            blocks(rows, side, inputs)
    options = {"inner_steps": 5, "inner_lr": 0.1, "transductive": True}
    for which in ("c", "torch"):
        with kernels(which):
            print(f"kernels: {which}")
            shares("W1, MAML", MAML(Conv4(norm="transductive"), 5, **options))  # type: ignore[arg-type]
            shares("W2, FOMAML", FOMAML(Conv4(norm="transductive"), 5, **options))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
