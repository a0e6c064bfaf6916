"""MAML in one class, then in ten lines of quickstudy, with the same meta-gradient.

    python examples/maml_from_scratch.py            trains on letters drawn from fonts

C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017.

What to look for, because tutorials often get it wrong (docs/common-mistakes.md):
- the layers use the parameters that are handed in, so that adapted ones can be;
- ``adapt`` takes several steps on a *loss*, and returns new parameters; θ is left alone;
- ``create_graph=True`` keeps the second derivative, which makes it MAML and not first-order MAML;
- the adapted parameters are scored on the *query* set, never on the support that they were fitted to;
- every new task starts from θ again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.data import Glyphs, TaskSource
from quickstudy.episode import Episode, first_leaf
from quickstudy.learners import MAML as QuickstudyMAML
from quickstudy.nets import MLP

Params = dict[str, Tensor]
Task = tuple[Tensor, Tensor, Tensor, Tensor]  # support x [Ns, 784], support y [Ns], query x [Nq, 784], query y [Nq]


class MAML(nn.Module):
    """28*28 -> 64 -> 10, and how it learns to learn."""

    def __init__(self, inner_lr: float = 0.4, inner_steps: int = 3, outer_lr: float = 1e-3) -> None:
        super().__init__()
        self.hidden = nn.Linear(28 * 28, 64)
        self.head = nn.Linear(64, 10)
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.optimizer = torch.optim.Adam(self.parameters(), outer_lr)

    def forward(self, x: Tensor, params: Params) -> Tensor:
        """Logits ``[N, 10]`` under ``params``, whichever these are."""
        h = F.relu(F.linear(x, params["hidden.weight"], params["hidden.bias"]))
        return F.linear(h, params["head.weight"], params["head.bias"])

    def adapt(self, x: Tensor, y: Tensor) -> Params:
        """φ: some gradient steps from θ on the support loss, differentiable in θ."""
        params: Params = dict(self.named_parameters())
        for _ in range(self.inner_steps):
            loss = F.cross_entropy(self(x, params), y)
            grads = torch.autograd.grad(loss, tuple(params.values()), create_graph=True)
            params = {name: p - self.inner_lr * g for (name, p), g in zip(params.items(), grads, strict=True)}
        return params

    def meta_update(self, tasks: list[Task]) -> float:
        """One step of θ along the gradient of the mean query loss after adapting."""
        self.optimizer.zero_grad()
        loss = torch.stack([self.query_loss(task) for task in tasks]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def query_loss(self, task: Task) -> Tensor:
        """The loss of φ on examples that φ was not fitted to."""
        support_x, support_y, query_x, query_y = task
        return F.cross_entropy(self(query_x, self.adapt(support_x, support_y)), query_y)

    def accuracy(self, task: Task) -> float:
        """Share of the query set that φ gets right."""
        support_x, support_y, query_x, query_y = task
        logits = self(query_x, self.adapt(support_x, support_y))
        return float((logits.argmax(1) == query_y).float().mean())


def as_tasks(episode: Episode, dtype: torch.dtype = torch.float32) -> list[Task]:
    """The T tasks of an episode, one by one, their pictures as vectors in 0 .. 1."""
    sets = [(first_leaf(part.x).flatten(2).to(dtype) / 255, part.y) for part in (episode.support, episode.query)]
    (support_x, support_y), (query_x, query_y) = sets
    return list(zip(support_x, support_y, query_x, query_y, strict=True))  # type: ignore[arg-type]


def meta_batches(source: TaskSource, steps: int, size: int) -> Iterator[list[Task]]:
    """``size`` new tasks for every step."""
    for step in range(steps):
        yield as_tasks(source.episodes(range(step * size, (step + 1) * size)))


def same_meta_gradient(ours: MAML, episode: Episode) -> float:
    """The ten lines of quickstudy; returns the largest difference to the class above, in float64."""
    net = MLP(28 * 28, (64,))
    learner = QuickstudyMAML(net, 10, inner_steps=ours.inner_steps, inner_lr=ours.inner_lr).double()
    ours = ours.double()
    pairs = [(ours.hidden, net.linears[0]), (ours.head, learner.model.head)]
    for mine, yours in pairs:
        yours.load_state_dict(mine.state_dict())

    learner.meta_loss(episode).loss.mean().backward()  # type: ignore[no-untyped-call]
    ours.zero_grad()
    torch.stack([ours.query_loss(task) for task in as_tasks(episode, torch.float64)]).mean().backward()  # type: ignore[no-untyped-call]

    grads = [
        (a.grad, b.grad) for mine, yours in pairs for a, b in zip(mine.parameters(), yours.parameters(), strict=True)
    ]
    differences = []
    for a, b in grads:
        assert a is not None and b is not None  # both have one; neither is skipped
        differences.append(float((a - b).abs().max()))
    return max(differences)


def main(steps: int = 800) -> None:
    """Meta-train, meta-test on letters held out, and compare with quickstudy."""
    torch.manual_seed(0)
    letters = Glyphs()
    train = letters.tasks("train", way=10, shot=1, query=5, seed=0)
    held_out = as_tasks(letters.tasks("test", way=10, shot=1, query=5, seed=0).episodes(range(100)))
    maml = MAML()

    def tested() -> float:
        return sum(maml.accuracy(task) for task in held_out) / len(held_out)

    before = tested()
    for tasks in track(meta_batches(train, steps, 8), "Meta-training", total=steps):
        maml.meta_update(tasks)
    print(f"10-way 1-shot on held-out letters: {before:.1%} before meta-training, {tested():.1%} after (chance: 10 %)")

    difference = same_meta_gradient(maml, train.episodes(range(4)))
    assert difference < 1e-10, difference
    print(f"Largest difference to quickstudy's meta-gradient: {difference:.0e}")


if __name__ == "__main__":
    main(*(int(steps) for steps in sys.argv[1:]))
