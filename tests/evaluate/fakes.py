"""Small learners and task sources, so that meta-testing is tested without the rooms beside it."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.data.source import TaskShape, TaskSource, as_indices
from quickstudy.episode import Classes, Episode, Examples, Real, first_leaf
from quickstudy.evaluate import Result
from quickstudy.keys import Integers, Key, Keys, choose, uniform
from quickstudy.learners.learner import AbstractLearner, Traits


class NearestMean(AbstractLearner):
    """Logits are minus the squared distance to each class's mean of ``x``; ``broken`` tasks get NaN for row 0."""

    def __init__(self, broken: tuple[int, ...] = (), transductive: bool = False) -> None:
        super().__init__()
        self.broken, self._traits = broken, Traits(transductive=transductive)
        self.inner = nn.Sequential(nn.Dropout(0.9), nn.Linear(1, 1))
        self.saw_training = False
        self.saw_grad = False
        self.saw_labels = False
        self.keys: list[Keys] = []

    @property
    def traits(self) -> Traits:
        return self._traits

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> dict[str, Tensor]:
        assert support.y is not None and key is not None
        self.saw_training |= any(module.training for module in self.modules())
        self.saw_grad |= torch.is_grad_enabled()
        self.keys.append(key)
        x = first_leaf(support.x).double().flatten(2)
        member = nn.functional.one_hot(support.y.masked_fill(~support.real, 0), support.max_way).double()
        member = member * support.real[..., None]
        means = torch.einsum("tnw,tnd->twd", member, x) / member.sum(1)[..., None].clamp(min=1)
        return {"means": means, "absent": member.sum(1) == 0, "task": torch.as_tensor(key.tasks)}

    def predict(self, state: dict[str, Tensor], query: Examples, *, key: Keys | None = None) -> Tensor:
        self.saw_labels |= query.y is not None
        logits = -torch.cdist(first_leaf(query.x).double().flatten(2), state["means"]).square()
        logits = logits.masked_fill(state["absent"][:, None], -torch.inf)
        bad = torch.isin(state["task"], torch.tensor(self.broken, dtype=torch.int64))
        logits[bad, 0] = torch.nan
        return logits


class Points(TaskSource):
    """Classes are points in the plane, examples are scattered around them."""

    def __init__(self, n_class: int = 30, way: int = 5, shot: int = 1, query: int = 3, seed: int = 0) -> None:
        self.n_class, self.way, self.shot, self.query, self.seed = n_class, way, shot, query, seed
        self.asked: list[int] = []

    @property
    def shape(self) -> TaskShape:
        return TaskShape((2,), "classes", self.way)

    @property
    def hash(self) -> str:
        return f"points-{self.n_class}"

    @property
    def settings(self) -> dict[str, Any]:
        names = ("way", "shot", "query", "seed")
        return {"data": "points", "split": "test", **{name: getattr(self, name) for name in names}}

    def episodes(self, indices: range | Integers) -> Episode:
        tasks = as_indices(indices)
        self.asked.extend(tasks.tolist())
        key = Key.of(self.seed, "points")
        centres = uniform(Key.of("centres").bits(np.arange(self.n_class), 2)) * 3
        classes = choose(key.bits(tasks, 2 * self.way), self.n_class, self.way)

        def examples(number: int, stream: int) -> Examples:
            noise = uniform(key.bits(tasks, self.way * number * 2, stream)).reshape(len(tasks), self.way, number, 2)
            x = centres[classes][:, :, None] + noise
            y = torch.arange(self.way).repeat_interleave(number).expand(len(tasks), -1)
            way = torch.full((len(tasks),), self.way)
            return Examples(torch.from_numpy(x).float().flatten(1, 2), y.contiguous(), Classes(way))

        return Episode(
            examples(self.shot, 1), examples(self.query, 2), torch.from_numpy(tasks), torch.from_numpy(classes)
        )


class Lines(TaskSource):
    """Regression on y = a x, a in 0 .. 1 for each task."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    @property
    def shape(self) -> TaskShape:
        return TaskShape((1,), "real", 1)

    @property
    def hash(self) -> str:
        return "lines"

    @property
    def settings(self) -> dict[str, Any]:
        return {"data": "lines", "split": "test", "shot": 5, "query": 8, "seed": 0}

    def episodes(self, indices: range | Integers) -> Episode:
        tasks = as_indices(indices)
        slope = torch.from_numpy(uniform(Key.of("lines").bits(tasks, 1))).float()[:, :, None]  # [T, 1, 1]

        def examples(number: int) -> Examples:
            x = torch.linspace(-1, 1, number)[None, :, None].expand(len(tasks), -1, -1)
            return Examples(x, self.scale * slope * x, Real(1))

        return Episode(examples(5), examples(8), torch.from_numpy(tasks))


class Factor(AbstractLearner):
    """Answers ``factors[task] * x`` (0 for tasks that are not listed)."""

    def __init__(self, factors: dict[int, float]) -> None:
        super().__init__()
        self.factors = factors

    @property
    def traits(self) -> Traits:
        return Traits(targets=("real",))

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Tensor:
        assert key is not None
        return torch.tensor([self.factors.get(int(task), 0.0) for task in key.tasks])

    def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
        return state[:, None, None] * first_leaf(query.x)


def global_states() -> tuple[Any, ...]:
    """The states of the generators that nobody may touch."""
    return (
        random.getstate(),
        np.random.get_state(legacy=False)["state"]["key"].tobytes(),
        torch.get_rng_state().tolist(),
    )


def a_result(figures: list[float], /, **changes: Any) -> Result:
    """A result with these figures and otherwise plain fields."""
    values = np.array(figures)
    settings = {"data": "digits", "split": "test", "way": 5, "shot": 1, "query": 15, "seed": 0}
    settings |= {name: json.loads(json.dumps(changes[name])) for name in settings if name in changes}
    half = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    fields: dict[str, Any] = {
        "metric": "accuracy",
        "mean": values.mean(),
        "ci95": half,
        "ci95_classes": 0.021,
        "median": np.median(values),
        "diverged": 0,
        "mean_converged": values.mean(),
        "ci95_converged": half,
        "episodes": len(figures),
        "first": 0,
        **settings,
        "source": settings,
        "source_hash": "0123456789abcdef",
        "learner": "maml",
        "learner_seed": 0,
        "transductive": False,
        "balanced_prior": False,
        "seconds": 1.5,
        "per_episode": tuple(figures),
    }
    return Result(**{**fields, **changes})
