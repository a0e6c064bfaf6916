"""The laws as a suite for others: held by good learners, broken by each broken one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import quickstudy
from quickstudy.doctor import LAWS, Subject, small_tasks
from quickstudy.doctor.law import refused
from quickstudy.doctor.smalltasks import ragged_of
from quickstudy.episode import Classes, Examples, MultiLabel
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners import MAML, AbstractLearner, FineTune, MetaLoss, Traits
from quickstudy.learners.learner import check_query
from quickstudy.nets import MLP
from tests.doctor import broken
from tests.doctor.broken import FEATURES, WAY, Prototypes, Steps, Tasks, mlp


class Unmasked(Prototypes):
    """Its class means count padded rows."""

    def embed(self, examples: Examples) -> Tensor:
        return super().embed(replace(examples, mask=None))


class KnowsNames(Prototypes):
    """Class 0 is preferred."""

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        return super().predict(state, query) + torch.tensor([1.0, 0.0, 0.0])


class LosesItself(Prototypes):
    """What it knows is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(())

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        return super().predict(state, query) + self.shift.to(state) * torch.arange(3)


class Single(Prototypes):
    """Answers in float32 whatever it is."""

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        return super().predict(state, query).float()


class Forgets(Prototypes):
    """Says that it learns by and by, and starts anew each time."""

    traits_ = Traits(incremental=True)


class Coupled(Prototypes):
    """Each task's loss is their mean."""

    def meta_loss(self, episode: Any, *, key: Keys | None = None) -> MetaLoss:
        out = super().meta_loss(episode, key=key)
        return MetaLoss(out.loss * out.loss.detach().mean())


class SharedState(Prototypes):
    """One number for all tasks in its state."""

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        return {"means": super().adapt(support), "scale": torch.ones((), dtype=torch.float64)}

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        return super().predict(state["means"], query)


class KnowsItsTasks(Prototypes):
    """Refuses a query of other tasks, and answers NaN."""

    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        check_query(Examples(torch.zeros(query.n_task, 1), None, query.target), state)
        return super().predict(state, query)


class Unlabelled(Prototypes):
    """Does something else with rows without a label."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        assert support.y is not None
        if self.fault == "last":
            return super().adapt(replace(support, y=support.y % WAY))
        if self.fault == "first":
            return super().adapt(replace(support, y=support.y.clamp(min=0)))
        members = (support.y[..., None] == torch.arange(WAY)).to(next(self.parameters()).dtype)
        found = members.transpose(1, 2) @ self.embed(support) / members.sum(1)[..., None]
        if self.fault == "nan" and bool((support.y < 0).any()):
            return found * torch.nan
        if self.fault == "gradient" and found.requires_grad:
            found = found + 0 * (support.y.min(1).values + 1 + 0 * found.sum((1, 2))).sqrt()[:, None, None]
        return found

    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        if self.fault == "loss" and examples.y is not None:
            return super().loss(outputs, replace(examples, y=examples.y.clamp(min=0)))
        return super().loss(outputs, examples)


class NoBatches(Prototypes):
    """Says that it is trained on batches."""

    traits_ = Traits(phases=("batches", "episodes"))

    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        return MetaLoss(torch.zeros(3))


BROKEN: list[tuple[Callable[[], AbstractLearner], str, str]] = [
    (broken.CentresQueries, "inductive_or_says_that_it_is_not", "when the queries were"),
    (broken.SaysTransductive, "inductive_or_says_that_it_is_not", "queries do not interact"),
    (Unmasked, "padding_does_not_matter", "changes outputs"),
    (broken.KnowsTheOrder, "the_order_of_the_support_does_not_matter", "order of the support matters"),
    (KnowsNames, "renaming_classes_renames_predictions", "more than their names"),
    (broken.Noisy, "same_key_same_result_and_tasks_do_not_touch", "the same key gives another"),
    (broken.WritesInTesting, "adapting_and_predicting_write_nothing", "written: met"),
    (broken.TurnsItself, "adapting_and_predicting_write_nothing", "training flags changed"),
    (broken.SpoilsInputs, "adapting_and_predicting_write_nothing", "inputs were written"),
    (broken.NumpyNoise, "adapting_and_predicting_write_nothing", "global generator was used"),
    (LosesItself, "save_and_load_give_the_same_predictions", "says something else"),
    (Single, "dtype_is_kept", "outputs of a torch.float64 learner are torch.float32"),
    (
        lambda: MAML(broken.WrongBatched(FEATURES, (6, 5), activation="tanh"), WAY),
        "strategies_agree",
        "strategy 'batched' gives another loss",
    ),
    (Coupled, "chunks_give_the_same_gradient", "with 2 tasks at once"),
    (Coupled, "ragged_chunks_give_the_same_gradient", "tasks beside it"),
    (Forgets, "more_examples_later", "two parts"),
    (lambda: Steps(keeps=True), "evaluation_builds_no_graph", "keeps a graph"),
    (SharedState, "a_state_belongs_to_its_tasks", r"without the task axis .*\[\[\]\]"),
    (lambda: Steps(graph=False), "the_meta_gradient_is_exact_where_promised", "exact_meta_gradient=True, but"),
    (lambda: Steps(exact=False), "the_meta_gradient_is_exact_where_promised", "exact_meta_gradient=False, but"),
    (broken.NeverUsed, "training_reaches_every_parameter", r"No gradient of meta_loss reaches 'spare': \.grad stays"),
    (broken.CutOff, "training_reaches_every_parameter", "The meta-loss depends on no parameter"),
    (
        lambda: broken.BatchesAlone(spare=True),
        "training_reaches_every_parameter",
        r"No gradient of batch_loss reaches 'spare': \.grad stays",
    ),
    (NoBatches, "what_is_trained_on_batches_can_be", "expected one finite loss"),
    *(
        (lambda fault=fault: broken.BatchesToo(fault), "what_is_trained_on_batches_can_be", sentence)
        for fault, sentence in (
            ("writes", "batch_loss wrote into met"),
            ("turns", "training flags changed in batch_loss"),
            ("draws", "batch_loss used a global generator"),
            ("spoils", "batch_loss wrote into its batch"),
            ("five times", "the gradient of batch_loss is not its derivative"),
        )
    ),
    *(
        (lambda fault=fault: Unlabelled(fault), "rows_without_a_label_are_of_no_class", sentence)
        for fault, sentence in (
            ("last", r"\(-1\) count for the last class"),
            ("first", r"\(-1\) count for the first class"),
            ("nan", "in the support make outputs NaN"),
            ("loss", "unlabelled queries count in the loss"),
            ("gradient", "make the meta-loss or its gradient NaN"),
        )
    ),
    (Prototypes, "a_query_that_cannot_be_answered_is_refused", r"says 'Cannot predict: the state is of 3 tasks"),
    (KnowsItsTasks, "a_query_that_cannot_be_answered_is_refused", r"says 'query.*but nothing was refused"),
    (Prototypes, "a_support_that_cannot_be_learned_from_is_refused", "expected an InputError that says"),
]


@pytest.mark.parametrize(("build", "law", "sentence"), BROKEN)
def test_a_broken_learner_breaks_its_law(build: Callable[[], AbstractLearner], law: str, sentence: str) -> None:
    test_laws = quickstudy.doctor.laws(build)
    with pytest.raises(AssertionError, match=sentence):
        test_laws(law=law)


def test_every_law_is_broken_by_someone() -> None:
    assert {law for _, law, _ in BROKEN} == set(LAWS)


def _with_spare_frozen(learner: broken.NeverUsed) -> broken.NeverUsed:
    learner.spare.requires_grad_(False)
    return learner


@pytest.mark.parametrize(
    "build",
    [
        lambda: broken.BatchesAlone(spare=False),
        lambda: _with_spare_frozen(broken.NeverUsed()),
        lambda: FineTune(mlp(), WAY, classes=9, steps=2),
        lambda: FineTune(mlp(), WAY, steps=2),  # not told its classes, it cannot be looked at
    ],
)
def test_what_only_adapting_uses_need_not_be_trained(build: Callable[[], AbstractLearner]) -> None:
    """Nor what is frozen: as in the doctor's own line."""
    quickstudy.doctor.laws(build)(law="training_reaches_every_parameter")


@pytest.mark.parametrize("first", ["law", "traininglaws"])
def test_all_laws_are_there_whatever_is_imported_first(first: str) -> None:
    code = f"import quickstudy.doctor.{first}, quickstudy.doctor as room\nassert len(room.LAWS) == {len(LAWS)}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_law_speaks_of_whom_it_concerns() -> None:
    def names(build: Callable[[], AbstractLearner], **options: Any) -> set[str]:
        mark = vars(quickstudy.doctor.laws(build, **options))["pytestmark"][0]
        assert mark.args[0] == "law"
        return set(mark.args[1])

    assert "more_examples_later" not in names(Prototypes) and "more_examples_later" in names(Forgets)
    assert "the_meta_gradient_is_exact_where_promised" not in names(Prototypes, smooth=False)
    assert "the_meta_gradient_is_exact_where_promised" not in names(Prototypes, follows_query=False)
    assert "what_is_trained_on_batches_can_be" in names(lambda: FineTune(mlp(), WAY, classes=9, steps=2))


test_laws = quickstudy.doctor.laws(
    lambda: MAML(MLP(4, (5,), activation="tanh"), 2, "real", inner_steps=1), target="real"
)
test_laws_on_tasks_of_ones_own = quickstudy.doctor.laws(
    lambda: MAML(mlp(), head="shared", inner_steps=2), tasks=Tasks(spoil=broken.all_shuffled)
)


def test_tasks_that_do_not_serve() -> None:
    with pytest.raises(InputError, match=r"at least three tasks without padding, received 2\. Give tasks"):
        quickstudy.doctor.laws(Prototypes, tasks=small_tasks(n_task=2))
    with pytest.raises(InputError, match="received 3, padded"):
        quickstudy.doctor.laws(Prototypes, tasks=ragged_of(small_tasks()))
    with pytest.raises(InputError, match=r"There are no small tasks with 'ranks' targets\. Known: classes"):
        small_tasks("ranks")


def test_pytest_is_met_only_here() -> None:
    code = "import sys, quickstudy.doctor\nassert 'pytest' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("target", ["classes", "multi-label", "real"])
def test_ragged_tasks_keep_what_is_needed(target: str) -> None:
    whole = small_tasks(target, n_task=5)
    ragged = ragged_of(whole, float("nan"))
    ragged.check()
    assert not ragged.support.real.all() and not ragged.query.real.all()
    assert ragged.support.real[-1].all()
    assert isinstance(ragged.support.x, Tensor) and ragged.support.x[~ragged.support.real].isnan().all()
    for t in range(5):
        one = ragged.support.task(t)
        if isinstance(one.target, Classes):
            assert one.y is not None
            assert set(one.y[0].tolist()) == set(range(int(one.target.way)))
    if isinstance(ragged.support.target, (Classes, MultiLabel)):
        assert ragged.support.target.way.tolist() == [3, 2, 3, 2, 3]
        same = ragged_of(whole, any_way=False).support.target
        assert isinstance(same, (Classes, MultiLabel)) and same.way.tolist() == [3] * 5


def test_a_refusal_must_say_why() -> None:
    def refuse() -> None:
        raise InputError("No.")

    refused("No", refuse)
    with pytest.raises(AssertionError, match=re.escape("says 'Yes', found 'No.'")):
        refused("Yes", refuse)
    with pytest.raises(AssertionError, match="nothing was refused"):
        refused("No", lambda: None)


def test_the_subject_is_the_same_each_time() -> None:
    subject = Subject(Prototypes)
    for a, b in zip(subject.make().parameters(), subject.make().parameters(), strict=True):
        assert torch.equal(a, b)
