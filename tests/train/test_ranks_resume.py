"""A run that was begun by some ranks goes on with as many, or with others, as if it had never stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.learners.learner import AbstractLearner
from quickstudy.train import Checkpointing, Interrupted, JsonLines, Silent, StepEvent, Validation, cosine, fit
from quickstudy.train.averaging import Average
from quickstudy.train.checkpoint import has_checkpoint, load_checkpoint
from tests.table import make
from tests.train.inturn import InTurn, side_by_side, values
from tests.train.small import Small, metrics, same, weights
from tests.train.test_phases import TASKS, pretraining
from tests.train.test_ranks import ROW, Uneven
from tests.train.test_ranks_table import without_dropout

STEPS, EVERY = 9, 4
TOLERANCE = 1e-10


class Killed(BaseException):
    """Stands in for SIGKILL: no checkpoint is written, nobody is told."""


class Ends(Silent):
    """After a step every rank is killed, or rank 0 is asked to stop."""

    on_every_rank = True

    def __init__(self, ranks: InTurn, step: int, how: str) -> None:
        self.ranks, self.at, self.how = ranks, step, how

    @override
    def step(self, event: StepEvent) -> None:
        if event.step == self.at and self.how == "killed":
            raise Killed
        self.ranks.stop = self.how == "stopped" and event.step == self.at and self.ranks.rank == 0


@dataclass(frozen=True)
class Kind:
    """A training with state of several sorts, each of which has to be handed from some ranks to others."""

    row: str | None
    more: dict[str, Any]


KINDS = {
    "averaged, clipped, with a schedule": Kind(
        "maml-norms",
        {"average": Average("ema", decay=0.8), "clip_norm": 0.05, "schedule": cosine(), "momentum": 0.9},
    ),
    "carried moments": Kind("reptile-published", {"tasks_per_step": 3}),
    # Not Adam: where a gradient is zero but for rounding (a bias before a batch norm) it makes whole steps of noise.
    "running statistics": Kind("protonet-batchnorm", {"momentum": 0.9}),
    "adam": Kind("maml-real", {"optimizer": "adam"}),
    "phases": Kind(None, {"average": Average("swa", start=0.2)}),
}


def train(ranks: InTurn, kind: Kind, folder: Path, *callbacks: Silent) -> dict[str, Tensor]:
    """Begin it, or go on with it: the weights at its end."""
    row = None if kind.row is None else ROW[kind.row]
    learner = without_dropout() if row is None else make(row)
    source: Any = TASKS if row is None else Uneven(row.target)
    last = folder / "last"
    done = load_checkpoint(last).state["step"] if has_checkpoint(last) else 0
    lines = [JsonLines(folder / "metrics.jsonl", resumed_at=done)] if ranks.rank == 0 else []
    options: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "tasks_per_step": 5} | kind.more

    def validate(learner: AbstractLearner) -> Validation:
        """Measures nothing, and depends on all weights."""
        return Validation("mse", float(sum(p.detach().square().sum() for p in learner.parameters())), 0.0)

    fit(
        learner, source, steps=STEPS, ranks=ranks, resume=True, checkpoints=Checkpointing(folder, every=EVERY),
        callbacks=[*lines, *callbacks], pretrain=pretraining() if row is None else None, validate=validate,
        validate_every=3, **options,
    )  # fmt: skip
    return weights(learner)


def disturbed(kind: Kind, folder: Path, sizes: list[int], how: str, step: int) -> dict[str, Tensor]:
    """Begun by some ranks, ended after a step, gone on with by others: the weights at the end, the same on all."""
    folder.mkdir()
    first = side_by_side(lambda ranks: train(ranks, kind, folder, Ends(ranks, step, how)), sizes[0])
    assert [type(each) for each in first] == [Interrupted if how == "stopped" else Killed] * sizes[0]
    found = values(side_by_side(lambda ranks: train(ranks, kind, folder), sizes[1]))
    assert all(same(each, found[0]) for each in found)
    return found[0]


def assert_same_lines(found: Path, expected: Path, *, bits: bool) -> None:
    """The same lines of metrics, none missing and none doubled."""
    lines, others = metrics(found / "metrics.jsonl"), metrics(expected / "metrics.jsonl")
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    for line, other in zip(lines, others, strict=True):
        assert line.keys() == other.keys()
        for name, value in other.items():  # logs are float32
            about = pytest.approx(value, rel=1e-5, abs=1e-6) if isinstance(value, float) and not bits else value
            assert line[name] == about, (line["step"], name)


@pytest.mark.parametrize(
    ("kind", "sizes", "how"),
    [
        ("averaged, clipped, with a schedule", [2, 1], "killed"),
        ("averaged, clipped, with a schedule", [2, 2], "killed"),
        ("carried moments", [1, 3], "killed"),
        ("running statistics", [2, 4], "stopped"),
        ("adam", [3, 1], "stopped"),
        ("adam", [3, 3], "killed"),
        ("phases", [2, 4], "killed"),
        ("phases", [2, 1], "stopped"),
    ],
    ids=str,
)
@pytest.mark.parametrize("step", [pytest.param(3, marks=pytest.mark.slow), 6, pytest.param(8, marks=pytest.mark.slow)])
def test_a_run_goes_on_with_whatever_number_of_ranks(
    kind: str, sizes: list[int], how: str, step: int, tmp_path: Path
) -> None:
    """To the last bit where their number stays the same, and else to 1e-10; checkpoints are after steps 4 and 8."""
    found = disturbed(KINDS[kind], tmp_path / "parts", sizes, how, step)
    (tmp_path / "whole").mkdir()
    size = sizes[0] if sizes[0] == sizes[1] else 1
    expected = values(side_by_side(lambda ranks: train(ranks, KINDS[kind], tmp_path / "whole"), size))[0]
    if sizes[0] == sizes[1]:
        assert same(found, expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=TOLERANCE, atol=TOLERANCE, msg=name)
    assert_same_lines(tmp_path / "parts", tmp_path / "whole", bits=sizes[0] == sizes[1])
    for which in ("last", "best"):
        mine, other = (load_checkpoint(tmp_path / run / which) for run in ("parts", "whole"))
        assert (mine.state["step"], mine.state["best_step"]) == (other.state["step"], other.state["best_step"])
        for part in ("learner", "optimizer", "moved"):
            tensors, others = getattr(mine, part), getattr(other, part)
            assert tensors.keys() == others.keys()
            for name, value in others.items():
                torch.testing.assert_close(tensors[name], value, rtol=TOLERANCE, atol=TOLERANCE, msg=f"{which} {name}")


def test_what_was_accepted_is_what_rank_0_says(tmp_path: Path) -> None:
    """The others may be on a machine where the run's folder, which keeps it, is not."""

    def work(ranks: InTurn, rate: float, accepted: bool) -> int:
        given = Checkpointing(tmp_path, identity={"recipe": str(rate)}, accept_changes=accepted and ranks.rank == 0)
        options: dict[str, Any] = {"steps": 1 + accepted, "lr": rate, "tasks_per_step": 2}
        return fit(make(ROW["protonet"]), Small(), ranks=ranks, checkpoints=given, resume=True, **options).step

    values(side_by_side(lambda ranks: work(ranks, 0.1, False), 2))
    assert values(side_by_side(lambda ranks: work(ranks, 0.2, True), 2)) == [2, 2]
