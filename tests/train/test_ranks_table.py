"""What a step may hold, divided over 1, 2, 3 and 4 ranks: in float64 the run of one process, to 1e-10 in 20 steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from torch import Tensor, nn

from quickstudy.learners import AbstractLearner
from quickstudy.train import History, fit
from quickstudy.train.averaging import Average
from quickstudy.train.ranks import AbstractRanks
from tests.table import make
from tests.train.inturn import side_by_side, values
from tests.train.small import weights
from tests.train.test_phases import TASKS, meta_baseline, pretraining
from tests.train.test_ranks import ROW, Uneven, assert_same_run

STEPS = 20


@dataclass(frozen=True)
class Case:
    """One training.

    Args:
        name: shown in the test's name.
        row: of the table of learners, or what builds one.
        more: arguments of ``fit``.
        quick: by how many ranks it is divided in the quick tests, if it is; in the slow ones by 1, 2, 3 and 4.
        pretrained: whether a phase of plain batches comes first.
    """

    name: str
    row: str | Callable[[], AbstractLearner]
    more: dict[str, Any] = field(default_factory=dict)
    quick: int | None = None
    pretrained: bool = False


def without_dropout() -> AbstractLearner:
    """A learner of two phases, the first of plain batches; dropout would draw once for each portion of tasks."""
    learner = meta_baseline()
    for layer in learner.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return learner


EMA, SWA = Average("ema", decay=0.8), Average("swa", start=0.2)
CASES = [
    Case("maml, second order", "maml-norms"),
    Case("fomaml", "fomaml", quick=3),
    Case("reptile, carried moments", "reptile-published", {"tasks_per_step": 3}),
    Case("imaml", "imaml", {"tasks_per_step": 3}, quick=2),
    Case("meta-sgd", "meta-sgd"),
    Case("running statistics", "protonet-batchnorm", quick=4),
    Case("phases", without_dropout, quick=3, pretrained=True),
    Case("ema", "maml-real", {"average": EMA}, quick=3),
    Case("swa over phases", without_dropout, {"average": SWA}, quick=4, pretrained=True),
    Case("clipping", "maml-norms", {"clip_norm": 0.05}, quick=4),
    Case("one task a step", "maml-norms", {"tasks_per_step": 1}),
    Case("seven tasks a step, two at once", "meta-sgd", {"tasks_per_step": 7, "tasks_at_once": 2}, quick=4),
    Case("all of it", "protonet-batchnorm", {"average": EMA, "clip_norm": 0.1, "tasks_per_step": 7, "momentum": 0.9}),
]


def run(case: Case, ranks: AbstractRanks | None = None) -> tuple[dict[str, Tensor], History]:
    """The weights after training, and its curves."""
    history = History()
    if isinstance(case.row, str):
        row = ROW[case.row]
        learner, source = make(row), Uneven(row.target)
    else:
        learner, source = case.row(), TASKS  # type: ignore[assignment]
    options: dict[str, Any] = {"tasks_per_step": 5, "optimizer": "sgd", "lr": 0.01, "momentum": 0.5} | case.more
    options["pretrain"] = pretraining() if case.pretrained else None
    fit(learner, source, steps=STEPS, callbacks=[history], ranks=ranks, **options)
    return weights(learner), history


@cache
def whole(name: str) -> tuple[dict[str, Tensor], History]:
    """The run of one process."""
    return run(next(case for case in CASES if case.name == name))


SIZES = [
    pytest.param(case, size, id=f"{case.name}, {size}", marks=[] if size == case.quick else [pytest.mark.slow])
    for case in CASES
    for size in (1, 2, 3, 4)
]


@pytest.mark.parametrize(("case", "size"), SIZES)
def test_ranks_give_the_run_of_one_process(case: Case, size: int) -> None:
    expected = whole(case.name)
    assert_same_run(values(side_by_side(lambda ranks: run(case, ranks), size)), expected)
