"""Learners, networks and sources with one fault each, and good ones beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from quickstudy.data.source import TaskShape, TaskSource, as_indices
from quickstudy.doctor import small_tasks
from quickstudy.doctor.smalltasks import numbers
from quickstudy.episode import Episode, Examples
from quickstudy.keys import Integers, Keys
from quickstudy.learners import MAML, AbstractLearner, MetaLoss, Traits
from quickstudy.nets import MLP, apply
from quickstudy.nets.norms import make_norm

FEATURES, WAY = 4, 3


# --- sources ---------------------------------------------------------------------------------------


class Tasks(TaskSource):
    """Small tasks by number, perhaps spoilt."""

    def __init__(self, target: str = "classes", spoil: Callable[[Episode], Episode] = lambda whole: whole) -> None:
        self.target, self.spoil = target, spoil
        self.whole = spoil(small_tasks(target, n_task=160))

    @property
    def shape(self) -> TaskShape:
        return TaskShape((FEATURES,), self.target, 2 if self.target == "real" else WAY, 9)  # type: ignore[arg-type]

    @property
    def hash(self) -> str:
        return "small"

    @property
    def settings(self) -> dict[str, Any]:
        return {"data": "small"}

    def episodes(self, indices: range | Integers) -> Episode:
        rows = torch.from_numpy(as_indices(indices))

        def part(examples: Examples) -> Examples:
            return examples._map(lambda leaf: leaf[rows])

        classes = None if self.whole.classes is None else self.whole.classes[rows]
        return Episode(part(self.whole.support), part(self.whole.query), rows, classes)


def _query(episode: Episode, **changes: Any) -> Episode:
    return replace(episode, query=replace(episode.query, **changes))


def renumbered(episode: Episode) -> Episode:
    """Each task's query numbers its classes in an order of its own."""
    y = episode.query.y
    assert y is not None
    turn = torch.arange(len(y))[:, None] % (WAY - 1) + 1
    return _query(episode, y=(y + turn) % WAY)


def shuffled_queries(episode: Episode) -> Episode:
    """The query's labels in another order than its inputs."""
    y = episode.query.y
    assert y is not None
    return _query(episode, y=y.gather(1, numbers("order", *y.shape[:2]).argsort(1).view(y.shape)))


def shuffled_values(episode: Episode) -> Episode:
    """The same for real targets."""
    y = episode.query.y
    assert y is not None
    order = numbers("order", *y.shape[:2]).argsort(1)
    return _query(episode, y=y.gather(1, order[..., None].expand_as(y)))


def all_shuffled(episode: Episode) -> Episode:
    """Labels that have nothing to do with inputs."""
    noise = [numbers(name, *part.x.shape) for name, part in (("a", episode.support), ("b", episode.query))]  # type: ignore[union-attr]
    return replace(episode, support=replace(episode.support, x=noise[0]), query=replace(episode.query, x=noise[1]))


def asks_for_the_unknown(episode: Episode) -> Episode:
    """No support example of class 2."""
    keep = torch.arange(6)
    return replace(episode, support=episode.support.rows(keep))


def out_of_range(episode: Episode) -> Episode:
    y = episode.query.y
    assert y is not None
    return _query(episode, y=y + 1)


def unlabelled(episode: Episode) -> Episode:
    return _query(episode, y=None)


def seen_queries(episode: Episode) -> Episode:
    """Half of the queries stand in the support."""
    support, query = episode.support, episode.query
    assert isinstance(support.x, Tensor) and isinstance(query.x, Tensor) and support.y is not None
    x, y = query.x.clone(), query.y.clone()  # type: ignore[union-attr]
    x[:, :6], y[:, :6] = support.x[:, :6], support.y[:, :6]
    return _query(episode, x=x, y=y)


class SaysOtherwise(Tasks):
    """Its shape promises real targets."""

    @property
    def shape(self) -> TaskShape:
        return TaskShape((FEATURES,), "real", 2)


# --- learners --------------------------------------------------------------------------------------


def mlp(norm: str = "none") -> MLP:
    return MLP(FEATURES, (6, 5), norm=norm, activation="tanh")  # type: ignore[arg-type]


class Prototypes(AbstractLearner):
    """Nearest class mean: nothing wrong with it. The others change one thing each."""

    traits_ = Traits()

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = mlp() if net is None else net

    @property
    def traits(self) -> Traits:
        return self.traits_

    def embed(self, examples: Examples) -> Tensor:
        return apply(self.net, examples.x, mask=examples.mask).out

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        assert support.y is not None
        members = F.one_hot(support.y, WAY).to(next(self.parameters()).dtype)  # [T, N, W]
        return members.transpose(1, 2) @ self.embed(support) / members.sum(1)[..., None]

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        return -torch.cdist(self.embed(query), state).square()


class Detached(Prototypes):
    """The network is cut off: only the scale trains."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def embed(self, examples: Examples) -> Tensor:
        return super().embed(examples).detach() * self.scale


class CutOff(Prototypes):
    """Nothing trains at all."""

    def embed(self, examples: Examples) -> Tensor:
        return super().embed(examples).detach()


class NeverUsed(Prototypes):
    """A parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.ones(2))


def bias_before_norm() -> Prototypes:
    """A linear layer's bias that batch norm takes away."""
    return Prototypes(nn.Sequential(nn.Linear(FEATURES, 5), make_norm("batch", 5), nn.Tanh()))


class HalfStopped(Prototypes):
    """Promises an exact gradient, but holds the prototypes constant."""

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        return super().adapt(support).detach()


class Steps(AbstractLearner):
    """One linear layer, two gradient steps on it, by hand."""

    def __init__(self, *, graph: bool = True, exact: bool = True, keeps: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh())
        self.head = nn.Linear(5, WAY, bias=False)
        self.graph, self.exact, self.keeps, self.inner_steps = graph, exact, keeps, 2

    @property
    def traits(self) -> Traits:
        return Traits(any_way=False, renames=False, exact_meta_gradient=self.exact)

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        outside = torch.is_grad_enabled()
        with torch.enable_grad():
            weight = self.head.weight.expand(support.n_task, -1, -1)
            features = apply(self.body, support.x).out
            for _ in range(self.inner_steps):
                loss = self.loss(features @ weight.transpose(1, 2), support).sum()
                (grad,) = torch.autograd.grad(loss, weight, create_graph=self.graph, retain_graph=True)
                weight = weight - 0.3 * grad
        return weight if outside or self.keeps else weight.detach()

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        out: Tensor = apply(self.body, query.x).out @ state.transpose(1, 2)
        return out


class PoolsTasks(Prototypes):
    """Calls torch's batch norm on all tasks at once."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(FEATURES, 5, bias=False), nn.BatchNorm1d(5)))

    def embed(self, examples: Examples) -> Tensor:
        assert isinstance(examples.x, Tensor)
        out: Tensor = self.net(examples.x.flatten(0, 1)).unflatten(0, examples.x.shape[:2])
        return out


class WritesInTesting(Prototypes):
    """Counts the tasks it has met, in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("met", torch.zeros(()))

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        self.met.add_(support.n_task)  # type: ignore[operator]
        return super().adapt(support)


class TurnsItself(Prototypes):
    """Leaves training mode by itself."""

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        self.eval()
        return super().adapt(support)


class SpoilsInputs(Prototypes):
    """Centres its inputs in place."""

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        assert isinstance(support.x, Tensor)
        support.x.sub_(support.x.mean())
        return super().adapt(support)


class CentresQueries(Prototypes):
    """Subtracts the queries' mean: transductive, and does not say so."""

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        features = self.embed(query)
        return -torch.cdist(features - features.mean(1, keepdim=True), state).square()


class CentresTasks(Prototypes):
    """Subtracts the mean of all tasks' queries."""

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        features = self.embed(query)
        return -torch.cdist(features - features.mean((0, 1)), state).square()


class SaysTransductive(Prototypes):
    """Declares what it is not."""

    traits_ = Traits(transductive=True)


class KnowsTheOrder(Prototypes):
    """The first support row counts more."""

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        return super().adapt(support) + 0.1 * self.embed(support)[:, :1]


class KnowsALittle(Prototypes):
    """The first support row counts a very little more, as where places have small weights."""

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        return super().adapt(support) + 1e-5 * self.embed(support)[:, :1]


class AmplifiesRounding(Prototypes):
    """Its class means go through a chaotic map, whose every step doubles a difference; the first row may count, too."""

    def __init__(self, steps: int, *, first_row: float = 0.0) -> None:
        super().__init__()
        self.steps, self.first_row = steps, first_row

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        found = super().adapt(support) + self.first_row * self.embed(support)[:, :1]
        found = (50 * found).sin().square()  # within 0 .. 1, and no rounding is absorbed
        for _ in range(self.steps):
            found = 4 * found * (1 - found)
        return found


class KnowsAndSays(KnowsTheOrder):
    """And it says so."""

    traits_ = Traits(order_invariant=False)


class SaysOrdered(Prototypes):
    """Declares what it is not."""

    traits_ = Traits(order_invariant=False)


class Noisy(Prototypes):
    """Draws from torch's global generator in testing."""

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        out = super().predict(state, query)
        return out + torch.randn_like(out)


class NumpyNoise(Prototypes):
    """Draws from NumPy's, which the doctor does not seed."""

    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        np.random.rand()
        return super().meta_loss(episode, key=key)


class WrongBatched(MLP):
    """Its batched form forgets to be tanh."""

    def batched(self, params: dict[str, Tensor], x: Tensor) -> Tensor:  # type: ignore[override]
        return super().batched(params, x) * 1.001


class OtherOrder(Prototypes):
    """Predicts classes in another order than it is trained on."""

    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        outputs = super().predict(self.adapt(episode.support), episode.query)
        return MetaLoss(self.loss(outputs, episode.query))

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        return super().predict(state, query).roll(1, 2)


class SortsItsClasses(Prototypes):
    """Predicts each task's classes in an order of that task: by their first feature."""

    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        outputs = super().predict(self.adapt(episode.support), episode.query)
        return MetaLoss(self.loss(outputs, episode.query))

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        order = state[..., :1].argsort(1).expand_as(state)
        return super().predict(state.gather(1, order), query)


class IgnoresTheSupport(Prototypes):
    """Nothing is out of step; it only learns nothing of a task, and groups queries all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((), 40.0))

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        return self.scale * torch.eye(WAY, 5).to(self.scale.dtype).expand(support.n_task, -1, -1)


class BatchesToo(Prototypes):
    """Trained on plain batches before tasks, by a linear classifier, with one fault at choice."""

    traits_ = Traits(phases=("batches", "episodes"))

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault, self.classifier = fault, nn.Linear(5, 9)
        self.register_buffer("met", torch.zeros(()))

    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        assert batch.y is not None and isinstance(batch.x, Tensor)
        if self.fault == "spoils":
            batch.x.mul_(2)
        loss = F.cross_entropy(self.classifier(self.embed(batch))[0], batch.y[0])[None]
        if self.fault == "writes":
            self.met.add_(1)  # type: ignore[operator]
        elif self.fault == "turns":
            self.eval()
        elif self.fault == "draws":
            loss = loss + 0 * torch.rand(1, dtype=loss.dtype)
        elif self.fault == "five times":
            loss = 5 * loss - 4 * loss.detach()
        return MetaLoss(loss)


class BatchesAlone(BatchesToo):
    """Trained on plain batches and nothing else; ``start`` is what adapting begins with, ``spare`` is never used."""

    traits_ = Traits(phases=("batches",))

    def __init__(self, *, spare: bool) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.ones(5))
        if spare:
            self.spare = nn.Parameter(torch.ones(2))

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        return super().adapt(support) + self.start


class Pairs(Prototypes):
    """Keeps something of every pair of tasks."""

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        found = super().adapt(support)
        pairs = found[:, None] * found[None]  # [T, T, W, D]
        wide = (pairs[..., None] * torch.arange(64)).sin().sum((1, 2, 3, 4))
        return found + 0 * wide[:, None, None]


class Fails(Prototypes):
    """Not finished."""

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        raise KeyError("to do")


class _Checkpointed(nn.Module):
    """Computes its layers again in the backward pass: with its own weights, and not with those of the task."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = checkpoint(self.layers, x, use_reentrant=False)
        return found


def checkpointed() -> MAML:
    """A meta-gradient that torch gets wrong without a word."""
    return MAML(_Checkpointed(), WAY, inner_steps=2, out_features=8, strategy="loop")
