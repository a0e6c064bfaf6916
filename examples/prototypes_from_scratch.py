"""A prototypical network in one class, then in a line of quickstudy, with the same gradient.

    python examples/prototypes_from_scratch.py       trains for some seconds on letters drawn from fonts

J. Snell, K. Swersky, R. Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017. The metric-based family:
nothing is optimised for a new task, a query is compared with what the support looks like to the network.

What to look for: the prototype is the mean of *features*; the loss is of the *query*; the number of classes appears in
no weight, so that a network trained 10-way answers 5-way tasks as well.
"""

from __future__ import annotations

import sys

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.data import Glyphs
from quickstudy.episode import Episode, first_leaf
from quickstudy.learners import ProtoNet as QuickstudyProtoNet
from quickstudy.nets import MLP

Task = tuple[Tensor, Tensor, Tensor, Tensor]  # support x [Ns, 784], support y [Ns], query x [Nq, 784], query y [Nq]


class ProtoNet(nn.Module):
    """28*28 -> 128 -> 64 features; classes are means of features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())

    def prototypes(self, x: Tensor, y: Tensor) -> Tensor:
        """``[way, 64]``: each class's mean feature."""
        features = self.layers(x)
        return torch.stack([features[y == label].mean(0) for label in range(int(y.max()) + 1)])

    def forward(self, x: Tensor, prototypes: Tensor) -> Tensor:
        """Logits ``[N, way]``: minus the squared distance to each prototype."""
        return -torch.cdist(self.layers(x), prototypes).square()

    def query_loss(self, task: Task) -> Tensor:
        """What is trained."""
        support_x, support_y, query_x, query_y = task
        return F.cross_entropy(self(query_x, self.prototypes(support_x, support_y)), query_y)

    def accuracy(self, task: Task) -> float:
        """Share of the query set that is nearest to its own prototype."""
        support_x, support_y, query_x, query_y = task
        logits = self(query_x, self.prototypes(support_x, support_y))
        return float((logits.argmax(1) == query_y).float().mean())


def as_tasks(episode: Episode, dtype: torch.dtype = torch.float32) -> list[Task]:
    """The T tasks of an episode, one by one, their pictures as vectors in 0 .. 1."""
    sets = [(first_leaf(part.x).flatten(2).to(dtype) / 255, part.y) for part in (episode.support, episode.query)]
    (support_x, support_y), (query_x, query_y) = sets
    return list(zip(support_x, support_y, query_x, query_y, strict=True))  # type: ignore[arg-type]


def same_gradient(ours: ProtoNet, episode: Episode) -> float:
    """The gradient of quickstudy beside that of the class above, in float64; the largest difference."""
    learner = QuickstudyProtoNet(MLP(28 * 28, (128, 64))).double()
    ours = ours.double()
    for mine, yours in zip(ours.parameters(), learner.parameters(), strict=True):
        yours.data.copy_(mine.data)

    learner.meta_loss(episode).loss.mean().backward()  # type: ignore[no-untyped-call]
    ours.zero_grad()
    torch.stack([ours.query_loss(task) for task in as_tasks(episode, torch.float64)]).mean().backward()  # type: ignore[no-untyped-call]

    grads = [(a.grad, b.grad) for a, b in zip(ours.parameters(), learner.parameters(), strict=True)]
    differences = []
    for a, b in grads:
        assert a is not None and b is not None  # both have one; neither is skipped
        differences.append(float((a - b).abs().max()))
    return max(differences)


def main(steps: int = 800) -> None:
    """Meta-train 10-way, meta-test 5-way on letters held out, and compare with quickstudy."""
    torch.manual_seed(0)
    letters = Glyphs()
    train = letters.tasks("train", way=10, shot=1, query=5, seed=0)
    held_out = as_tasks(letters.tasks("test", way=5, shot=1, query=15, seed=0).episodes(range(200)))
    model = ProtoNet()
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
    print(f"5-way 1-shot on held-out letters: {before:.1%} before meta-training, {tested():.1%} after (chance: 20 %)")

    difference = same_gradient(model, train.episodes(range(4)))
    assert difference < 1e-10, difference
    print(f"Largest difference to quickstudy's gradient: {difference:.0e}")


if __name__ == "__main__":
    main(*(int(steps) for steps in sys.argv[1:]))
