"""Ridge regression as the last layer, solved anew for each task; then the same in quickstudy, with the same gradient.

    python examples/ridge_head_from_scratch.py       trains for some seconds on letters drawn from fonts

L. Bertinetto, J. Henriques, P. Torr, A. Vedaldi, "Meta-learning with differentiable closed-form solvers", ICLR 2019.
The closed-form family: what MAML approaches in steps is computed exactly, and the features are trained through the
solution.

What to look for: the system has as many unknowns as the support has *rows* (Woodbury's identity), so it stays small
however many features there are; `torch.linalg.solve` is differentiable, so learning through it needs nothing special.
"""

from __future__ import annotations

import sys

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.data import Glyphs
from quickstudy.episode import Episode, first_leaf
from quickstudy.learners import R2D2
from quickstudy.nets import MLP

WAY = 5
Task = tuple[Tensor, Tensor, Tensor, Tensor]  # support x [Ns, 784], support y [Ns], query x [Nq, 784], query y [Nq]


class RidgeHead(nn.Module):
    """28*28 -> 128 -> 64 features, and a linear classifier that each task solves for itself."""

    def __init__(self, penalty: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.log_penalty = nn.Parameter(torch.tensor(penalty).log())
        self.scale = nn.Parameter(torch.tensor(10.0))

    def features(self, x: Tensor) -> Tensor:
        """``[N, 65]``: the last column of ones makes the bias a weight like the others."""
        features = self.layers(x)
        return torch.cat([features, torch.ones_like(features[:, :1])], 1)

    def solve(self, x: Tensor, y: Tensor) -> Tensor:
        """W ``[65, way]`` of ``min |X W - Y|^2 + λ n |W|^2``, through a system of n unknowns."""
        features, n = self.features(x), len(x)
        penalty = self.log_penalty.exp() * n
        kernel = features @ features.T + penalty * torch.eye(n, dtype=x.dtype)
        solution: Tensor = torch.linalg.solve(kernel, F.one_hot(y, WAY).to(x.dtype))
        return features.T @ solution

    def query_loss(self, task: Task) -> Tensor:
        """What is trained."""
        support_x, support_y, query_x, query_y = task
        return F.cross_entropy(self.scale * self.features(query_x) @ self.solve(support_x, support_y), query_y)

    def accuracy(self, task: Task) -> float:
        """Share of the query set that the task's own classifier gets right."""
        support_x, support_y, query_x, query_y = task
        logits = self.features(query_x) @ self.solve(support_x, support_y)
        return float((logits.argmax(1) == query_y).float().mean())


def as_tasks(episode: Episode, dtype: torch.dtype = torch.float32) -> list[Task]:
    """The T tasks of an episode, one by one, their pictures as vectors in 0 .. 1."""
    sets = [(first_leaf(part.x).flatten(2).to(dtype) / 255, part.y) for part in (episode.support, episode.query)]
    (support_x, support_y), (query_x, query_y) = sets
    return list(zip(support_x, support_y, query_x, query_y, strict=True))  # type: ignore[arg-type]


def same_gradient(ours: RidgeHead, episode: Episode) -> float:
    """The gradient of quickstudy beside that of the class above, in float64; the largest difference."""
    net = MLP(28 * 28, (128, 64))
    learner = R2D2(net, penalty=1.0).double()
    ours = ours.double()
    for mine, yours in zip(ours.layers.parameters(), net.parameters(), strict=True):
        yours.data.copy_(mine.data)
    learner.log_penalty.data.copy_(ours.log_penalty.data)
    learner.scale.data.copy_(ours.scale.data)

    learner.meta_loss(episode).loss.mean().backward()  # type: ignore[no-untyped-call]
    ours.zero_grad()
    torch.stack([ours.query_loss(task) for task in as_tasks(episode, torch.float64)]).mean().backward()  # type: ignore[no-untyped-call]

    pairs = [*zip(ours.layers.parameters(), net.parameters(), strict=True)]
    pairs += [(ours.log_penalty, learner.log_penalty), (ours.scale, learner.scale)]  # type: ignore[list-item]
    differences = []
    for a, b in pairs:
        assert a.grad is not None and b.grad is not None  # both have one; neither is skipped
        differences.append(float((a.grad - b.grad).abs().max()))
    return max(differences)


def main(steps: int = 800) -> None:
    """Meta-train, meta-test on letters held out, and compare with quickstudy."""
    torch.manual_seed(0)
    letters = Glyphs()
    train = letters.tasks("train", way=WAY, shot=5, query=5, seed=0)
    held_out = as_tasks(letters.tasks("test", way=WAY, shot=5, query=15, seed=0).episodes(range(200)))
    model = RidgeHead()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def tested() -> float:
        with torch.no_grad():
            return sum(model.accuracy(task) for task in held_out) / len(held_out)

    before = tested()
    for step in track(range(steps), "Meta-training"):
        optimizer.zero_grad()
        tasks = as_tasks(train.episodes(range(step * 8, (step + 1) * 8)))
        torch.stack([model.query_loss(task) for task in tasks]).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    print(f"5-way 5-shot on held-out letters: {before:.1%} before meta-training, {tested():.1%} after (chance: 20 %)")

    difference = same_gradient(model, train.episodes(range(4)))
    assert difference < 1e-10, difference
    print(f"Largest difference to quickstudy's gradient: {difference:.0e}")


if __name__ == "__main__":
    main(*(int(steps) for steps in sys.argv[1:]))
