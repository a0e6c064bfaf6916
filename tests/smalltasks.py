"""What a row of the table of learners is, and the small tasks that they are given; the rows are in ``tests/rows``."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from quickstudy.doctor.smalltasks import FEATURES, WAY, numbers, small_tasks
from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.learners import AbstractLearner
from quickstudy.nets import MLP
from quickstudy.nets.norms import make_norm

__all__ = [
    "FEATURES",
    "WAY",
    "Picture",
    "Row",
    "Slope",
    "TakesDict",
    "assert_close",
    "features",
    "make",
    "mlp",
    "numbers",
    "outputs",
    "quadratic",
    "ragged",
    "smooth_conv",
    "tasks",
]

tasks = small_tasks
_FEATURES: ContextVar[int] = ContextVar("features", default=FEATURES)


def features() -> int:
    """How many numbers an example has, while :func:`make` builds a row's learner: four, or as it was asked."""
    return _FEATURES.get()


@dataclass(frozen=True)
class Row:
    """One learner in the table.

    Args:
        name: shown in the test's name.
        build: a new learner with random weights (from torch's global generator, seeded by :func:`make`).
        target: the tasks that it is given.
        tolerance: of float64 comparisons; larger only with a reason.
        reason: why the tolerance is larger.
        smooth: the network has no kinks (ReLU, max-pooling), so that finite differences mean something.
        follows_query: ``meta_loss`` is the query loss (Reptile's is a surrogate, fine-tuning's a plain loss).
        fewest: shots, and numbers an example, that drawn tasks have at least; more than one only with a reason.
    """

    name: str
    build: Callable[[], AbstractLearner]
    target: str = "classes"
    tolerance: float = 1e-10
    reason: str = ""
    smooth: bool = True
    follows_query: bool = True
    fewest: int = 1


def mlp(norm: str = "none", activation: str = "tanh") -> MLP:
    return MLP(features(), (6, 5), norm=norm, activation=activation)  # type: ignore[arg-type]


class Picture(nn.Module):
    """The table's features as a square picture, so that convolutions meet the laws too.

    Args:
        size: pixels a side.
    """

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D] -> [N, 1, size, size]``."""
        pixels = torch.arange(1, self.size**2 + 1, dtype=x.dtype)
        waves = torch.sin(pixels[:, None] * torch.arange(1, x.shape[1] + 1) * 0.37)
        return (x @ waves.T).reshape(-1, 1, self.size, self.size)


def smooth_conv(norm: str = "task") -> nn.Sequential:
    """Two convolutions with tanh and average pooling, which finite differences can follow; 12 features."""
    layers: list[nn.Module] = [Picture(8)]
    for before in (1, 3):
        layers += [nn.Conv2d(before, 3, 3, padding=1), make_norm(norm, 3), nn.Tanh(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


class TakesDict(nn.Module):
    """A network whose input is a dict of two tensors."""

    out_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 5), nn.Linear(FEATURES - 3, 5)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return torch.tanh(self.left(x["left"]) + self.right(x["right"]))


class Slope(nn.Module):
    """f(x) = w x, one weight: the support loss of a point (x, s) is (w x - s)^2, a quadratic in w."""

    out_features = 1

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w


def quadratic(a: float, s: float, b: float, q: float) -> Episode:
    """Support loss a/2 (w - s)^2 and query loss b/2 (w - q)^2, as squared errors of one point each."""

    def point(curvature: float, target: float) -> Examples:
        x = torch.full((1, 1, 1), (curvature / 2) ** 0.5, dtype=torch.float64)
        return Examples(x, x * target, Real(1))

    return Episode(point(a, s), point(b, q))


def make(row: Row, dtype: torch.dtype = torch.float64, seed: int = 0, n_features: int = FEATURES) -> AbstractLearner:
    """The row's learner in eval mode for examples of so many numbers, its weights fixed by ``seed``."""
    before = _FEATURES.set(n_features)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return row.build().to(dtype).eval()
    finally:
        _FEATURES.reset(before)


def ragged(filler: float = 0.0) -> Episode:
    """Three tasks of 3, 2 and 3 classes with 1 to 3 shots, ``filler`` in every padded entry."""
    whole = tasks()
    keep_s = torch.tensor(
        [[1, 1, 1, 1, 0, 0, 1, 1, 0], [1, 0, 0, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool
    )
    keep_q = torch.ones(3, 12, dtype=torch.bool)
    keep_q[0, 5:8], keep_q[1, 8:] = False, False
    way = torch.tensor([3, 2, 3])
    sets = []
    for part, keep in ((whole.support, keep_s), (whole.query, keep_q)):
        assert isinstance(part.x, Tensor) and part.y is not None
        x = part.x.masked_fill(~keep[..., None], filler)
        sets.append(replace(part, x=x, target=Classes(way), mask=keep))
    assert whole.classes is not None
    return Episode(sets[0], sets[1], classes=whole.classes.masked_fill(torch.arange(3) >= way[:, None], -1))


def outputs(learner: AbstractLearner, episode: Episode) -> Tensor:
    """Predictions after adapting, as in meta-testing."""
    with torch.no_grad():
        return learner.predict(learner.adapt(episode.support), episode.query.unlabelled())


def assert_close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
