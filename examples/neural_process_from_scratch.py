"""A conditional neural process on sinusoids, then the same in quickstudy, with the same predictions and gradient.

    python examples/neural_process_from_scratch.py       trains for some seconds

M. Garnelo et al., "Conditional neural processes", ICML 2018. The memory- and model-based family: a task becomes a
vector, the mean of its encoded examples, and a decoder answers any query from that vector, with a deviation beside the
mean.

What to look for: the mean makes the order of the examples irrelevant and their number free; nothing is differentiated
or solved on a new task; the loss is the likelihood of the query, which trains the deviation as well.
"""

from __future__ import annotations

import sys

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.data import Sinusoid
from quickstudy.episode import Episode, first_leaf
from quickstudy.learners import CNP as QuickstudyCNP

WIDTH = 64


class CNP(nn.Module):
    """(x, y) -> r, and (x, r) -> mean and deviation of y."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)
        )
        self.decoder = nn.Sequential(
            nn.Linear(1 + WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)
        )

    def summary(self, x: Tensor, y: Tensor) -> Tensor:
        """What the support says of its task: ``[T, N, 1]`` twice -> ``[T, 1, WIDTH]``."""
        encoded: Tensor = self.encoder(torch.cat([x, y], 2))
        return encoded.mean(1, keepdim=True)

    def forward(self, x: Tensor, summary: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation at ``x`` ``[T, N, 1]``."""
        mean, spread = self.decoder(torch.cat([x, summary.expand(-1, x.shape[1], -1)], 2)).chunk(2, 2)
        return mean, 0.1 + 0.9 * F.softplus(spread)

    def query_loss(self, episode: Episode) -> Tensor:
        """Negative log-likelihood of the queries, given the support."""
        (sx, sy), (qx, qy) = arrays(episode)
        mean, deviation = self(qx, self.summary(sx, sy))
        return F.gaussian_nll_loss(mean, qy, deviation.square(), full=True)

    def squared_error(self, episode: Episode) -> float:
        """Of the mean, on the queries."""
        (sx, sy), (qx, qy) = arrays(episode)
        with torch.no_grad():
            return float((self(qx, self.summary(sx, sy))[0] - qy).square().mean())


def arrays(episode: Episode) -> list[tuple[Tensor, Tensor]]:
    """(x, y) of support and query, each ``[T, N, 1]``."""
    parts = [(first_leaf(part.x), part.y) for part in (episode.support, episode.query)]
    return [(x, y.to(x.dtype)) for x, y in parts if y is not None]


def same_gradient(ours: CNP, episode: Episode) -> float:
    """The gradient of quickstudy beside that of the class above; the largest difference."""
    learner = QuickstudyCNP(outputs=1, target="real", in_features=1, width=WIDTH)
    for mine, yours in zip(ours.parameters(), learner.parameters(), strict=True):
        yours.data.copy_(mine.data)

    learner.meta_loss(episode).loss.mean().backward()  # type: ignore[no-untyped-call]
    ours.zero_grad()
    ours.query_loss(episode).backward()  # type: ignore[no-untyped-call]

    grads = [(a.grad, b.grad) for a, b in zip(ours.parameters(), learner.parameters(), strict=True)]
    differences = []
    for a, b in grads:
        assert a is not None and b is not None  # both have one; neither is skipped
        differences.append(float((a - b).abs().max()))
    return max(differences)


def main(steps: int = 3000) -> None:
    """Meta-train, meta-test on other sinusoids, and compare with quickstudy."""
    torch.manual_seed(0)
    sinusoids = Sinusoid()
    train = sinusoids.tasks("train", shot=10, query=20, seed=0)
    held_out = sinusoids.tasks("test", shot=10, query=100, seed=0).episodes(range(500))
    model = CNP()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    before = model.squared_error(held_out)
    for step in track(range(steps), "Meta-training"):
        optimizer.zero_grad()
        model.query_loss(train.episodes(range(step * 25, (step + 1) * 25))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    print(f"10-shot squared error: {before:.2f} before meta-training, {model.squared_error(held_out):.2f} after")

    difference = same_gradient(model, train.episodes(range(4)))
    assert difference < 1e-5, difference  # float32, in which sinusoids are drawn
    print(f"Largest difference to quickstudy's gradient: {difference:.0e}")


if __name__ == "__main__":
    main(*(int(steps) for steps in sys.argv[1:]))
