"""The baselines that keep everyone honest, with and without a look at all queries; then the same in quickstudy.

    python examples/class_means_from_scratch.py       trains for some seconds on letters drawn from fonts

A network is trained plainly, to tell all training classes apart. On a new task its features are centred on the training
mean, scaled to unit length, and
- each query goes to the nearest class mean: Y. Wang et al., "SimpleShot", 2019 (the baseline family, inductive);
- or all queries are looked at together, moved to where the support is, and the class means made anew with the queries
  that are nearest to them: J. Liu, L. Song, Y. Qin, "Prototype rectification for few-shot learning", ECCV 2020 (the
  transductive family).

What to look for: no task was seen in training; and the second figure is of another problem than the first, one in which
the answer to a query may depend on which other queries are asked. They do not belong in one column unmarked.
"""

from __future__ import annotations

import sys

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.data import Glyphs
from quickstudy.episode import Episode, Examples, first_leaf
from quickstudy.learners import BDCSPN, AbstractLearner, SimpleShot
from quickstudy.nets import MLP

Task = tuple[Tensor, Tensor, Tensor, Tensor]  # support x [Ns, 784], support y [Ns], query x [Nq, 784], query y [Nq]


class PlainClassifier(nn.Module):
    """28*28 -> 128 -> 64 features -> all training classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.last = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, classes]``, for training."""
        logits: Tensor = self.last(self.layers(x))
        return logits

    def unit_features(self, x: Tensor, centre: Tensor) -> Tensor:
        """``[N, 64]`` of length 1, for new tasks."""
        return F.normalize(self.layers(x) - centre, dim=1)


def nearest_mean(support: Tensor, y: Tensor, query: Tensor) -> Tensor:
    """Logits ``[Nq, way]``: minus the squared distance to each class mean."""
    means = torch.stack([support[y == label].mean(0) for label in range(int(y.max()) + 1)])
    return -torch.cdist(query, means).square()


def rectified_mean(support: Tensor, y: Tensor, query: Tensor, *, sharpness: float = 10.0, confident: int = 8) -> Tensor:
    """Logits ``[Nq, way]`` after the shift of the queries and the rectification of the means."""
    query = query + support.mean(0) - query.mean(0)
    means = torch.stack([support[y == label].mean(0) for label in range(int(y.max()) + 1)])
    cosine = F.normalize(query, dim=1) @ F.normalize(means, dim=1).T
    taken_by = cosine.argmax(1)
    better = []
    for label, mean in enumerate(means):
        mine = (taken_by == label).nonzero()[:, 0]
        mine = mine[cosine[mine, label].argsort(descending=True)[:confident]]
        members = torch.cat([support[y == label], query[mine]])
        weight = (sharpness * F.cosine_similarity(members, mean[None])).softmax(0)
        better.append(weight @ members)
    return 10 * F.normalize(query, dim=1) @ F.normalize(torch.stack(better), dim=1).T


def as_tasks(episode: Episode) -> list[Task]:
    """The T tasks of an episode, one by one, their pictures as vectors in 0 .. 1."""
    sets = [(first_leaf(part.x).flatten(2) / 255, part.y) for part in (episode.support, episode.query)]
    (support_x, support_y), (query_x, query_y) = sets
    return list(zip(support_x, support_y, query_x, query_y, strict=True))  # type: ignore[arg-type]


def of_quickstudy(
    kind: type[SimpleShot] | type[BDCSPN], model: PlainClassifier, seen: list[Examples]
) -> AbstractLearner:
    """The library's learner with the same weights, centred on the same training examples."""
    net = MLP(28 * 28, (128, 64))
    learner = kind(net, transform="cl2n").eval()
    for mine, yours in zip(model.layers.parameters(), net.parameters(), strict=True):
        yours.data.copy_(mine.data)
    learner.base.centre_on(*seen)  # as the network was not trained by the learner itself, which would gather the mean
    return learner


def main(steps: int = 1500) -> None:
    """Train plainly, test on letters held out, and compare with quickstudy."""
    torch.manual_seed(0)
    letters = Glyphs()
    batches = letters.tasks("train", way=5, shot=1, query=5, seed=0).batches(256)
    held_out = letters.tasks("test", way=5, shot=1, query=15, seed=0).episodes(range(200))
    assert batches.shape.classes is not None
    model = PlainClassifier(batches.shape.classes)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = batches.batch(step)
        assert rows.y is not None
        return first_leaf(rows.x)[0].flatten(1) / 255, rows.y[0]

    for step in track(range(steps), "Training"):
        x, y = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    with torch.no_grad():
        seen = [batches.batch(step) for step in range(20)]
        centre = torch.cat([model.layers(first_leaf(rows.x)[0].flatten(1) / 255) for rows in seen]).mean(0)
        for name, kind, rule in (
            ("nearest class mean, inductive", SimpleShot, nearest_mean),
            ("rectified class mean, transductive", BDCSPN, rectified_mean),
        ):
            tasks = as_tasks(held_out)
            logits = torch.stack(
                [rule(model.unit_features(sx, centre), sy, model.unit_features(qx, centre)) for sx, sy, qx, _ in tasks]
            )
            right = (logits.argmax(2) == torch.stack([task[3] for task in tasks])).float().mean()
            learner = of_quickstudy(kind, model, seen)
            theirs = learner.predict(learner.adapt(held_out.support), held_out.query.unlabelled())
            difference = float((logits - theirs).abs().max())
            assert difference < 1e-3, difference  # float32
            print(f"5-way 1-shot on held-out letters, {name}: {right:.1%} (to quickstudy's logits: {difference:.0e})")


if __name__ == "__main__":
    main(*(int(steps) for steps in sys.argv[1:]))
