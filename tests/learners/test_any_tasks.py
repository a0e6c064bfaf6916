"""Tasks of any shape, drawn by hypothesis, for every row of the table.

The laws hold a learner on a few fixed tasks. Here way, shots, queries, number of tasks, padding and the length of an
example are drawn for each row, so that nothing is right for the fixed shapes alone. What is drawn is fixed by the row's
name; ``make test-all`` draws far more.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from quickstudy.doctor.measures import central_difference, filled, gradients, outputs, seeded, slopes, wave
from quickstudy.doctor.smalltasks import WAY, numbers
from quickstudy.episode import Classes, Episode, Examples, MultiLabel, Real, Target
from quickstudy.keys import Key, Keys
from quickstudy.learners import AbstractLearner, MetaLoss
from quickstudy.learners.ptmap import PTMAP
from quickstudy.learners.reptile import Reptile
from tests.table import ROWS, Row, assert_close, make, mlp


@dataclass(frozen=True)
class Shape:
    """What a set of tasks looks like.

    Args:
        shots: of each class of each task; of other targets their sum alone counts.
        queries: of each task.
        n_features: numbers an example.
        spare: padded rows beyond the longest task's.
        training: the learner is in training mode.
        number: which examples are drawn.
    """

    shots: tuple[tuple[int, ...], ...]
    queries: tuple[int, ...]
    n_features: int
    spare: int
    training: bool
    number: int

    def episode(self, target: str) -> Episode:
        """Tasks of this shape; rows and padding of each in an order of its own, NaN in what is padded."""
        supports: list[Examples] = []
        queries: list[Examples] = []
        for t, (shots, n_query) in enumerate(zip(self.shots, self.queries, strict=True)):
            way, slope = len(shots), numbers(f"slope {self.number} {t}", self.n_features, max(len(shots), 2))
            known = torch.arange(way).repeat_interleave(torch.tensor(shots))
            asked = (torch.arange(n_query) + self.number) % way
            for name, y, sets in (("support", known, supports), ("query", asked, queries)):
                x = numbers(f"{name} {self.number} {t}", 1, len(y), self.n_features)
                if target == "classes":
                    x = x + numbers(f"centres {self.number} {t}", way, self.n_features)[y]
                sets.append(_labelled(x, y, slope, way, target))
        parts = [self._spread(Examples.stack(sets), name) for name, sets in (("s", supports), ("q", queries))]
        ways = torch.tensor([len(shots) for shots in self.shots])
        classes = (
            torch.arange(int(ways.max()))
            .expand(len(ways), -1)
            .masked_fill(torch.arange(int(ways.max())) >= ways[:, None], -1)
        )
        return Episode(parts[0], parts[1], classes=classes if target == "classes" else None)

    def _spread(self, part: Examples, name: str) -> Examples:
        n = part.n_example
        if self.spare:
            part = replace(
                part.rows(torch.arange(n + self.spare) % n), mask=torch.cat([part.real, _no(part, self.spare)], 1)
            )
        n += self.spare
        part = part.take(numbers(f"{name} {self.number}", part.n_task, n).argsort(1))
        if part.mask is None:
            return part
        assert isinstance(part.x, Tensor) and part.y is not None
        y = part.y.masked_fill(~part.mask, -1) if part.y.dim() == 2 else part.y
        if part.y.is_floating_point():
            y = part.y.masked_fill(~part.mask[..., None], torch.nan)
        return replace(part, x=part.x.masked_fill(~part.mask[..., None], torch.nan), y=y)


def _no(part: Examples, n: int) -> Tensor:
    return torch.zeros(part.n_task, n, dtype=torch.bool)


def _labelled(x: Tensor, y: Tensor, slope: Tensor, way: int, target: str) -> Examples:
    kind: Target = Real(2) if target == "real" else MultiLabel(torch.tensor([way]))
    if target == "classes":
        return Examples(x, y[None], Classes(torch.tensor([way])))
    if target == "real":
        return Examples(x, torch.sin(x @ slope[:, :2]), kind)
    return Examples(x, (x @ slope[:, :way] > 0).long(), kind)


def shapes(row: Row, n_task: int = 3) -> st.SearchStrategy[Shape]:
    """Shapes that the row's learner takes: of the way that it has room for or fewer, or of any."""
    learner = make(row)
    room = getattr(learner, "outputs", WAY + 1) if learner.traits.any_way else WAY  # in-context learners name one
    one = st.integers(2, min(room, WAY + 1)).flatmap(lambda way: st.tuples(*[st.integers(row.fewest, 3)] * way))
    return st.integers(1, n_task).flatmap(
        lambda n: st.builds(
            Shape,
            shots=st.tuples(*[one] * n),
            queries=st.tuples(*[st.integers(1, 4)] * n),
            n_features=st.integers(row.fewest, 6),
            spare=st.integers(0, 1),
            # Who is trained on batches alone never meets tasks in training mode, where batch norm would take
            # everything away from a single query.
            training=st.booleans() if "episodes" in learner.traits.phases else st.just(False),
            number=st.integers(0, 50),
        )
    )


def drawn(row: Row, count: int, check: Callable[[Shape], None], n_task: int = 3) -> None:
    """Hold the check on so many shapes, always the same ones for a row."""
    limits = settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    limits(seed(zlib.crc32(row.name.encode()))(given(shapes(row, n_task))(check)))()


def few_and(many: int, few: int) -> pytest.MarkDecorator:
    """Each test in two sizes: with a few shapes a row, and in ``make test-all`` with many."""
    counts = [pytest.param(few, id="few"), pytest.param(many, id="many", marks=pytest.mark.slow)]
    return pytest.mark.parametrize("count", counts)


def agree(measured: float, claimed: float, tolerance: float) -> bool:
    return abs(claimed - measured) < tolerance * max(1, abs(measured))


def is_derivative(row: Row, shape: Shape) -> tuple[bool, str]:
    """Whether the meta-gradient in float64 is the slope of the meta-loss, and both in words."""
    learner, episode = make(row, n_features=shape.n_features).train(shape.training), shape.episode(row.target)

    def loss(learner: AbstractLearner) -> MetaLoss:
        with seeded():  # dropout
            return learner.meta_loss(episode)

    measured, claimed = slopes(learner, loss)
    said = f"the slope is {measured!r}, the gradient says {claimed!r}"
    if agree(measured, claimed, 1e-7):
        return True, said
    # Within the step a support vector may meet its bound, or two points be a hair apart, and the loss bend: a step a
    # hundred times smaller decides, at the price of some digits.
    near = central_difference(learner, loss, wave(learner), 1e-7)
    return agree(near, claimed, 1e-6), f"{said}; with a smaller step the slope is {near!r}"


FOLLOWED = [row for row in ROWS if row.smooth and row.follows_query and make(row).traits.trainable]
EXACT = [row for row in FOLLOWED if make(row).traits.exact_meta_gradient]
INEXACT = [row for row in FOLLOWED if not make(row).traits.exact_meta_gradient]


@few_and(60, few=4)
@pytest.mark.parametrize("row", EXACT, ids=lambda row: row.name)
def test_the_meta_gradient_is_the_derivative(row: Row, count: int) -> None:
    def check(shape: Shape) -> None:
        exact, said = is_derivative(row, shape)
        assert exact, said

    drawn(row, count, check)


@pytest.mark.parametrize("shots", [(1, 1), (1, 1, 2, 1)])
def test_the_gradient_of_queries_that_are_all_but_one_is_the_derivative(shots: tuple[int, ...]) -> None:
    """Found by the test above, on a network that puts out but one positive number, which PT-MAP makes all but equal.

    Such queries, centred and of length 1 again, have lost so many digits that the short steps see the loss's rounding;
    the gradient has not (the same computation with many more digits says so). Hence the tolerance, and the row's net.
    """
    learner = make(Row("pt-map", lambda: PTMAP(mlp(), classes=9, iterations=5)), n_features=1)
    episode = Shape((shots,), (2,), n_features=1, spare=0, training=False, number=4).episode("classes")
    measured, claimed = slopes(learner, lambda learner: learner.meta_loss(episode))
    assert agree(measured, claimed, 1e-5), f"{measured!r} {claimed!r}"


@pytest.mark.parametrize("row", INEXACT, ids=lambda row: row.name)
def test_what_is_not_exact_is_seen_to_be_so(row: Row) -> None:
    """Else the test above could not tell the two apart, or the trait were too modest."""
    limits = settings(max_examples=12, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    find(shapes(row), lambda shape: not is_derivative(row, shape)[0], settings=limits, random=Random(0))


# --- first order --------------------------------------------------------------------------------------


@contextmanager
def inner_gradients(given: list[Any] | None = None) -> Iterator[list[Any]]:
    """What ``torch.autograd.grad`` returned in each call; or these in its place, one after the other."""
    met: list[Any] = []
    original = torch.autograd.grad

    def grad(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs) if given is None else given[len(met)]
        met.append(tuple(g.detach() for g in found))
        return found

    torch.autograd.grad = grad
    try:
        yield met
    finally:
        torch.autograd.grad = original


FIRST_ORDER = [row for row in INEXACT if "first-order" in row.name or row.name.startswith(("fo", "unicorn"))]


@few_and(40, few=3)
@pytest.mark.parametrize("row", FIRST_ORDER, ids=lambda row: row.name)
def test_first_order_is_the_derivative_with_the_inner_gradients_held(row: Row, count: int) -> None:
    """Its own formula: the slope of the meta-loss where each step adds what it added at θ, by finite differences."""

    def check(shape: Shape) -> None:
        learner, episode = make(row, n_features=shape.n_features), shape.episode(row.target)
        with inner_gradients() as at_start:
            learner.meta_loss(episode)
        assert at_start

        def held(learner: AbstractLearner) -> MetaLoss:
            with inner_gradients(at_start) as met:
                found = learner.meta_loss(episode)
            assert len(met) == len(at_start)
            return found

        direction = wave(learner)
        near, far = (central_difference(learner, held, direction, step) for step in (1e-5, 2e-5))
        grads = filled(learner, gradients(learner, lambda learner: learner.meta_loss(episode)))
        claimed = float(sum((g * d).sum() for g, d in zip(grads, direction, strict=True)))
        assert agree((4 * near - far) / 3, claimed, 1e-7), f"{(4 * near - far) / 3!r} {claimed!r}"

    drawn(row, count, check, n_task=2)  # MAML++ holds those of its first two tasks


REPTILES = [
    Row(f"{optimizer} {target}", lambda o=optimizer, t=target: reptile(o, t), target.replace("shared", "classes"))  # type: ignore[misc]
    for optimizer in ("sgd", "adam")
    for target in ("classes", "shared", "real")
]


def reptile(optimizer: Any, target: Any) -> Reptile:
    options: Any = {"optimizer": optimizer, "inner_steps": 3, "inner_lr": 0.05, "inner_batch": None}
    if target == "shared":
        return Reptile(mlp(), head="shared", **options)
    return Reptile(mlp(), 2 if target == "real" else WAY, target, **options)


@few_and(60, few=6)
@pytest.mark.parametrize("row", REPTILES, ids=lambda row: row.name)
def test_reptile_is_what_torch_s_optimisers_make_of_each_task(row: Row, count: int) -> None:
    """Its own formula: Σ θ - φ, where each φ is from ``torch.optim`` on a plain copy of the network."""

    def check(shape: Shape) -> None:
        learner, episode = make(row, n_features=shape.n_features), shape.episode(row.target)
        assert isinstance(learner, Reptile)
        expected = [torch.zeros_like(p) for p in learner.parameters()]
        for t in range(episode.n_task):
            one, model = episode.support.task(t), copy.deepcopy(learner.model)
            if "shared" in row.name:  # each class has a copy of the row, and their mean pulls it
                assert isinstance(one.target, Classes)
                for name, row_ in model.head.named_parameters():
                    copies = row_.detach().repeat_interleave(int(one.target.way[0]), 0)
                    setattr(model.head, name, torch.nn.Parameter(copies))
            make_optimizer = torch.optim.SGD if "sgd" in row.name else partial(torch.optim.Adam, betas=(0.0, 0.999))
            optimizer = make_optimizer(model.parameters(), lr=0.05)
            for _ in range(3):
                optimizer.zero_grad()
                assert isinstance(one.x, Tensor) and one.y is not None
                out = model.head(model.net(one.x[0]))
                if isinstance(one.target, Classes):
                    loss = F.cross_entropy(out[:, : int(one.target.way)], one.y[0])
                else:
                    loss = F.mse_loss(out, one.y[0])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            for number, (p, q) in enumerate(zip(learner.parameters(), model.parameters(), strict=True)):
                expected[number] = expected[number] + p - (q if p.shape == q.shape else q.mean(0, keepdim=True))
        found = filled(learner, gradients(learner, lambda learner: learner.meta_loss(episode)))
        for a, b in zip(found, expected, strict=True):
            assert_close(a, b.detach(), 1e-9)

    drawn(row, count, check)


# --- raggedness ----------------------------------------------------------------------------------------


def alone(episode: Episode, t: int) -> Episode:
    """One task without its padding."""
    return Episode(episode.support.task(t), episode.query.task(t), torch.tensor([t]), _one(episode.classes, t))


def _one(classes: Tensor | None, t: int) -> Tensor | None:
    return None if classes is None else classes[t : t + 1]


def answers(learner: AbstractLearner, episode: Episode) -> Tensor:
    key = Keys(Key.of(7), episode.indices.numpy())
    return outputs(learner, episode, key)


@few_and(25, few=2)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_any_raggedness(row: Row, count: int) -> None:
    """Tasks of any ways, shots and queries: padded and together each is answered, and trained on, as alone."""

    def check(shape: Shape) -> None:
        learner, episode = make(row, n_features=shape.n_features), shape.episode(row.target)
        said = answers(learner, episode)
        scored = learner.loss(said, episode.query)
        for t in range(episode.n_task):
            one = alone(episode, t)
            expected, mine = answers(learner, one), said[t][episode.query.real[t]][None]
            assert_close(mine[..., : expected.shape[2]], expected, row.tolerance)
            assert_close(scored[t], learner.loss(expected, one.query)[0], row.tolerance)
            if isinstance(one.query.target, Classes):
                assert (mine[..., expected.shape[2] :] == -torch.inf).all()
        if learner.traits.trainable and "episodes" in learner.traits.phases:
            losses = trained(learner, [episode])
            assert torch.isfinite(losses).all()
            assert_close(trained(learner, [alone(episode, t) for t in range(episode.n_task)]), losses, row.tolerance)

    drawn(row, count, check)


LONG = Row(
    "reptile-shared-long", lambda: Reptile(mlp(), head="shared", inner_batch=None, test_inner_batch=None, inner_lr=0.05)
)
"""Of Adam's 50 large steps each multiplies what the last bit of a weight differs by, beyond any tolerance."""


@pytest.mark.parametrize("row", [*ROWS, LONG], ids=lambda row: row.name)
def test_what_stands_in_the_tasks_beside_it_changes_no_bit(row: Row) -> None:
    """The sums are the same ones then: no tolerance could hide, or rounding feign, that a task looks at another."""
    first, second = (
        Shape(((2, 3, 2),) * 3, (3, 2, 4), n_features=4, spare=1, training=False, number=n).episode(row.target)
        for n in (5, 6)
    )
    sets = [_beside(a, b) for a, b in ((first.support, second.support), (first.query, second.query))]
    said = answers(make(row), first)
    other = answers(make(row), replace(first, support=sets[0], query=sets[1]))
    real = first.query.real[1]
    assert torch.equal(said[1][real], other[1][real])
    assert not torch.equal(said[0].nan_to_num(), other[0].nan_to_num())  # else nothing was changed


def _beside(mine: Examples, others: Examples) -> Examples:
    """Task 1 of the first set among the second one's tasks 0 and 2."""
    assert isinstance(mine.x, Tensor) and isinstance(others.x, Tensor) and mine.y is not None and others.y is not None

    def chosen(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b[:1], a[1:2], b[2:]])

    x, y = chosen(mine.x, others.x), chosen(mine.y, others.y)
    return replace(mine, x=x, y=y, mask=chosen(mine.real, others.real))


def trained(learner: AbstractLearner, parts: list[Episode]) -> Tensor:
    """Meta-losses ``[T]`` in training mode, one call a part; what they carry is absorbed in between."""
    learner, losses = copy.deepcopy(learner).train(), []
    for part in parts:
        with seeded():
            out = learner.meta_loss(part, key=Keys(Key.of(7), part.indices.numpy()))
        learner.absorb(out.carried)
        losses.append(out.loss.detach())
    return torch.cat(losses)
