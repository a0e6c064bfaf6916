"""T2A, what is trained: our recipes, and loops with other libraries' interfaces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from benchmarks.speed.goals import Clock
from quickstudy.data.omniglot import Omniglot
from quickstudy.data.sinusoid import Sinusoid
from quickstudy.episode import Episode
from quickstudy.evaluate import meta_test
from quickstudy.recipes import build, load_recipe
from quickstudy.recipes.fitting import fit_built
from quickstudy.train import Silent, StepEvent

__all__ = ["train"]

RECIPES = {"omniglot": "omniglot-protonet-quick", "sinusoid": "sinusoid-maml-fast"}
"""Ours."""

TESTED = {"omniglot": 400, "sinusoid": 1000}
"""Tasks of each test."""

StartClock = Callable[[Callable[[], float]], Clock]
Part = tuple[Tensor, Tensor]


def train(goal: str, contestant: str, clock: StartClock, data_root: Path | None, seed: int) -> None:
    """Train one contestant; see ``goals``.

    Raises:
        Reached: by the clock, when it is done.
    """
    torch.manual_seed(seed)
    np.random.seed(seed)
    if contestant == "quickstudy":
        _ours(RECIPES[goal], goal, clock, data_root, seed)
        return
    loops: dict[tuple[str, str], Callable[[], Iterator[None]]] = {
        ("omniglot", "learn2learn"): lambda: _protonet_learn2learn(clock, data_root),
        ("omniglot", "torchmeta"): lambda: _protonet_torchmeta(clock, data_root),
        # Its example: 16 waves a step, 32 hidden units, 5 inner steps of 0.01, Adam 1e-3.
        ("sinusoid", "learn2learn"): lambda: _maml(clock, _by_learn2learn, 16, 32, 5, 0.01, 1e-3),
        ("sinusoid", "learn2learn-our-settings"): lambda: _maml(clock, _by_learn2learn, 16, 40, 5, 0.01, 3e-3),
        ("sinusoid", "higher-our-settings"): lambda: _maml(clock, _by_higher, 16, 40, 5, 0.01, 3e-3),
    }
    for _ in loops[goal, contestant]():
        pass


# --- quickstudy ---------------------------------------------------------------------------------------


class _Steps(Silent):
    """Tells the clock of each step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @override
    def step(self, event: StepEvent) -> None:
        del event
        self._clock.step()


def _ours(recipe: str, goal: str, clock: StartClock, data_root: Path | None, seed: int) -> None:
    built = build(load_recipe(recipe, {"seed": seed}), data_root)
    source = _test_source(goal, data_root)
    fit_built(built, callbacks=[_Steps(clock(lambda: meta_test(built.learner, source, episodes=TESTED[goal]).mean))])


# --- tests, the same for all --------------------------------------------------------------------------


def _test_source(goal: str, data_root: Path | None) -> Any:
    if goal == "sinusoid":
        return Sinusoid().tasks("test", shot=5, query=100, seed=0)
    return Omniglot(data_root).tasks("test", way=5, shot=1, query=15, seed=0)


def _test_tasks(goal: str, data_root: Path | None = None) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Support x and y, query x and y of each task; pictures as floats ``[N, 1, 28, 28]``."""
    episode: Episode = _test_source(goal, data_root).episodes(range(TESTED[goal]))
    parts = (episode.support.x, episode.support.y, episode.query.x, episode.query.y)
    sx, sy, qx, qy = (part for part in parts if isinstance(part, Tensor))
    if goal == "omniglot":
        sx, qx = (x.unsqueeze(2).float() / 255 for x in (sx, qx))
    return list(zip(sx, sy, qx, qy, strict=True))


# --- prototypical networks ----------------------------------------------------------------------------


def _conv4() -> nn.Sequential:
    """As in the examples of both: batch norm with running statistics, max-pooling."""
    widths = [1, 64, 64, 64, 64]
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
        for a, b in itertools.pairwise(widths)
    ]
    return nn.Sequential(*blocks, nn.Flatten())


def _characters(data_root: Path | None) -> Tensor:
    """The characters that our recipe trains on, each in four rotations: uint8 ``[4800, 20, 28, 28]``, in memory."""
    data = Omniglot(data_root)
    numbers = [number for role in ("train", "validation") for number in data.classes(role)]
    upright = np.stack([np.asarray(data.store.of(number)) for number in numbers])
    return torch.from_numpy(np.concatenate([np.rot90(upright, turn, axes=(2, 3)) for turn in range(4)]))


def _accuracy(net: nn.Module, logits: Callable[[Tensor, Tensor, Tensor], Tensor], tasks: list[Any]) -> float:
    net.eval()
    with torch.no_grad():
        hits = [(logits(net(sx), sy, net(qx)).argmax(1) == qy).float().mean() for sx, sy, qx, qy in tasks]
    net.train()
    return float(torch.stack(hits).mean())


def _protonet_learn2learn(clock: StartClock, data_root: Path | None) -> Iterator[None]:
    """After its example for Omniglot: 50-way 1-shot 5-query, one task a step, Adam 1e-3."""
    import learn2learn as l2l

    from benchmarks.speed.samplers import flat, learn2learn_tasks

    net, classifier = _conv4(), l2l.nn.PrototypicalClassifier()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def logits(known: Tensor, y: Tensor, asked: Tensor) -> Tensor:
        classifier.fit_(known, y)
        scores: Tensor = classifier(asked)
        return scores

    tests = _test_tasks("omniglot", data_root)
    tasks = learn2learn_tasks(flat(_characters(data_root).numpy()), 50, 1, 5)
    ticking = clock(lambda: _accuracy(net, logits, tests))
    while True:
        sx, sy, qx, qy = next(tasks)
        # Its example embeds support and query together.
        features = net(torch.cat([sx, qx]).unsqueeze(1).float() / 255)
        loss = F.cross_entropy(logits(features[: len(sx)], sy, features[len(sx) :]), qy)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        ticking.step()
        yield


def _protonet_torchmeta(clock: StartClock, data_root: Path | None) -> Iterator[None]:
    """After its example: 5-way 1-shot 15-query, 16 tasks a step, Adam 1e-3."""
    from torchmeta.utils.prototype import get_prototypes, prototypical_loss

    from benchmarks.speed.samplers import torchmeta_batches

    net = _conv4()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def embed(x: Tensor) -> Tensor:
        features: Tensor = net(x.flatten(0, 1).unsqueeze(1).float() / 255)
        return features.view(*x.shape[:2], -1)

    def logits(known: Tensor, y: Tensor, asked: Tensor) -> Tensor:
        centres: Tensor = get_prototypes(known[None], y[None], 5)[0]
        return -(asked[:, None] - centres[None]).square().sum(2)

    tests = _test_tasks("omniglot", data_root)
    batches = torchmeta_batches(_characters(data_root), 5, 1, 15, at_once=16)
    ticking = clock(lambda: _accuracy(net, logits, tests))
    for batch in batches:
        (sx, sy), (qx, qy) = batch["train"], batch["test"]
        loss = prototypical_loss(get_prototypes(embed(sx), sy, 5), embed(qx), qy)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ticking.step()
        yield


# --- MAML on sinusoids --------------------------------------------------------------------------------

Solve = Callable[[nn.Module, int, float, Part, Tensor], Tensor]
"""(network, steps, rate, support, query x) -> the query's outputs after the steps, linked to the network."""


def _by_learn2learn(net: nn.Module, steps: int, lr: float, support: Part, asked: Tensor) -> Tensor:
    import learn2learn as l2l

    fast = l2l.algorithms.MAML(net, lr=lr).clone()
    for _ in range(steps):
        fast.adapt(F.mse_loss(fast(support[0]), support[1]))
    outputs: Tensor = fast(asked)
    return outputs


def _by_higher(net: nn.Module, steps: int, lr: float, support: Part, asked: Tensor) -> Tensor:
    import higher

    inner = torch.optim.SGD(net.parameters(), lr)
    with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (fast, optimizer):
        for _ in range(steps):
            optimizer.step(F.mse_loss(fast(support[0]), support[1]))
        outputs: Tensor = fast(asked)
        return outputs


def _maml(
    clock: StartClock, solve: Solve, tasks: int, width: int, steps: int, lr: float, meta_lr: float
) -> Iterator[None]:
    """10 shots and 10 queries; task after task, as in the examples of these libraries."""
    net = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
    optimizer, random = torch.optim.Adam(net.parameters(), meta_lr), np.random.default_rng(0)
    tests = _test_tasks("sinusoid")

    def error() -> float:
        found = [F.mse_loss(solve(net, steps, lr, (sx, sy), qx), qy).detach() for sx, sy, qx, qy in tests]
        return float(torch.stack(found).mean())

    ticking = clock(error)
    while True:
        amplitude, phase = random.uniform(0.1, 5.0, (tasks, 1, 1)), random.uniform(0, np.pi, (tasks, 1, 1))
        x = random.uniform(-5, 5, (tasks, 20, 1))
        y = amplitude * np.sin(x - phase)
        optimizer.zero_grad()
        for xs, ys in zip(*(torch.from_numpy(part.astype(np.float32)) for part in (x, y)), strict=True):
            outputs = solve(net, steps, lr, (xs[:10], ys[:10]), xs[10:])
            (F.mse_loss(outputs, ys[10:]) / tasks).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        ticking.step()
        yield
