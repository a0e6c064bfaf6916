"""Every check fires on a learner or source broken for it, and is silent on good ones."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import quickstudy
from quickstudy.doctor import CHECKS, Finding, Report
from quickstudy.doctor.learning import check_learning
from quickstudy.doctor.measures import generators, generators_kept, moved_dtype
from quickstudy.doctor.order import check_order
from quickstudy.doctor.patient import Patient
from quickstudy.doctor.smalltasks import ragged_of
from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.learners import MAML, TIM, AbstractLearner, FineTune, ProtoNet, SimpleShot, UnicornMAML
from quickstudy.learners.parts.pretrained import Transform
from quickstudy.nets import MLP
from tests.doctor import broken
from tests.doctor.broken import FEATURES, WAY, Prototypes, Steps, Tasks, mlp
from tests.nets.test_secondorder import Once
from tests.nets.test_secondorder import learner as maml_with
from tests.rows.foundation import ROWS
from tests.smalltasks import make
from tests.table import ROWS as ALL_ROWS


def found(learner: AbstractLearner, source: Tasks | None = None, *, tasks: int = 2) -> Report:
    report: Report = quickstudy.doctor(learner, source or Tasks(), tasks=tasks)
    return report


BROKEN: list[tuple[Callable[[], AbstractLearner], str, str, str]] = [
    (broken.Detached, "parameters in the graph", "problem", r"reaches 'net\.linears.*\.grad stays None"),
    (
        lambda: FineTune(mlp(), WAY, classes=9, steps=2),
        "parameters in the graph",
        "note",
        r"No gradient of batch_loss reaches 'model\.head\.weight'.* change them, adapting does",
    ),
    (broken.NeverUsed, "parameters in the graph", "problem", r"reaches 'spare'.*\.grad stays None"),
    (
        lambda: broken.BatchesAlone(spare=True),
        "parameters in the graph",
        "problem",
        r"No gradient of batch_loss reaches 'spare': \.grad stays None",
    ),
    (
        lambda: broken.BatchesAlone(spare=False),
        "parameters in the graph",
        "note",
        r"No gradient of batch_loss reaches 'start': .* adapting does",
    ),
    (broken.CutOff, "parameters in the graph", "problem", "depends on no parameter"),
    (
        broken.bias_before_norm,
        "gradients that are zero",
        "note",
        r"'net\.0\.bias' is zero: a bias before a norm \(BatchNorm\)",
    ),
    (
        lambda: MAML(mlp(), 5, inner_steps=1),
        "gradients that are zero",
        "note",
        r"Rows from 3 on of 'model\.head\.weight', 'model\.head\.bias' have no gradient",
    ),
    (
        lambda: MAML(mlp(), head="shared", inner_steps=2),
        "gradients that are zero",
        "note",
        r"'model\.head\.bias' is zero: what all classes of a shared head",
    ),
    (
        lambda: UnicornMAML(mlp("task"), inner_steps=2),  # its bias comes after the norms, not before one
        "gradients that are zero",
        "note",
        r"'model\.head\.bias' is zero: what all classes of a shared head",
    ),
    (broken.HalfStopped, "meta-gradient", "problem", "Is not the derivative of the meta-loss"),
    (broken.checkpointed, "meta-gradient", "problem", "Is not the derivative"),
    (lambda: Steps(graph=False), "meta-gradient", "problem", "Is not the derivative"),
    (lambda: Steps(graph=False), "second order", "problem", "Promised, but not there"),
    (
        lambda: maml_with(Once()).float(),
        "second derivatives",
        "problem",
        r"through the layer 'model\.net\.1\.1\.layer' \(Once\)",
    ),
    (broken.PoolsTasks, "tasks apart", "problem", r"In training, a task's loss changes .* norm statistics of 'net\.1'"),
    (broken.PoolsTasks, "nothing written", "problem", r"meta_loss wrote into 'net\.1\.running_mean'"),
    (broken.WritesInTesting, "nothing written", "problem", "adapt and predict wrote into 'met'"),
    (broken.TurnsItself, "nothing written", "problem", "meta_loss turned the mode of 'the learner'"),
    (broken.SpoilsInputs, "nothing written", "problem", "wrote into its inputs"),
    (broken.CentresQueries, "queries apart", "problem", "declares itself inductive"),
    (broken.SaysTransductive, "queries apart", "note", "Declared transductive, but no prediction"),
    (
        broken.KnowsTheOrder,
        "support order",
        "problem",
        r"change by \d\.\de-0\d, and \d+% of .* another class when .* declares order_invariant=True",
    ),
    (broken.KnowsALittle, "support order", "note", r"change by \d\.\de-0[4-7].* a solver that stops early"),
    (broken.KnowsAndSays, "support order", "note", r"matters, as declared: reordered, predictions change by \d"),
    (broken.SaysOrdered, "support order", "note", "but no prediction changes when it is reversed or shuffled"),
    (broken.Noisy, "same key, same result", "problem", "differ by"),
    (broken.Noisy, "global generators", "problem", "adapt and predict draws from the global generator of torch"),
    (broken.NumpyNoise, "global generators", "problem", "meta_loss draws from the global generator of NumPy"),
    (
        lambda: ProtoNet(nn.Sequential(MLP(FEATURES, (5,), activation="tanh"), nn.Dropout(0.5))),
        "global generators",
        "note",
        r"by the dropout of 'embed\.net\.1'; the engine seeds it",
    ),
    (
        lambda: MAML(broken.WrongBatched(FEATURES, (6, 5), activation="tanh"), WAY),
        "strategies",
        "problem",
        "'batched' gives another loss",
    ),
    (broken.OtherOrder, "training shows in testing", "problem", "Labels are out of step"),
    (
        broken.SortsItsClasses,
        "training shows in testing",
        "problem",
        r"right in \d+\.\d% of the queries of 40 tasks, but with other numbers .* it would be in [89]\d",
    ),
    (lambda: broken.BatchesToo("writes"), "nothing written", "problem", "batch_loss wrote into 'met'"),
    (lambda: broken.BatchesToo("turns"), "nothing written", "problem", "batch_loss turned the mode of 'the learner'"),
    (lambda: broken.BatchesToo("spoils"), "nothing written", "problem", "batch_loss wrote into its inputs"),
    (lambda: broken.BatchesToo("draws"), "global generators", "problem", "batch_loss draws from the global .* torch"),
    (
        lambda: broken.BatchesToo("five times"),
        "gradient of batch_loss",
        "problem",
        "Is not the derivative of batch_loss: against finite differences",
    ),
    (lambda: Steps(keeps=True), "memory", "problem", "Adapting under no_grad keeps a graph"),
    (lambda: Steps(exact=False), "memory", "note", "though exact_meta_gradient=False"),
    (broken.Pairs, "memory", "note", "grows faster than their number"),
    (broken.Fails, "meta-gradient", "problem", "It fails: KeyError: 'to do'"),
]


@pytest.mark.parametrize(("build", "check", "verdict", "sentence"), BROKEN)
def test_a_broken_learner_is_found(
    build: Callable[[], AbstractLearner], check: str, verdict: str, sentence: str
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learner = build()
    report = found(learner)
    said = [finding for finding in report.of(check) if finding.verdict == verdict]
    text = "\n".join(finding.found for finding in said)
    assert any(re.search(sentence, finding.found) for finding in said), f"{text}\n{report}"
    assert all(finding.advice for finding in said if verdict == "problem")
    assert report.healthy == (verdict == "note")


SPOILT: list[tuple[Tasks, str, str, str]] = [
    (Tasks(spoil=broken.out_of_range), "labels", "problem", r"query\.y: expected class numbers 0 \.\. 2 .* in task 0"),
    (Tasks(spoil=broken.unlabelled), "labels", "problem", "The query carries no labels"),
    (Tasks(spoil=broken.asks_for_the_unknown), "labels", "problem", "query of task 0 asks for class 2, of which"),
    (broken.SaysOtherwise(), "labels", "problem", "says 'real', the tasks have 'classes' targets"),
    (Tasks(spoil=broken.renumbered), "labels fit inputs", "problem", "numbered otherwise than the support's"),
    (Tasks(spoil=broken.shuffled_queries), "labels fit inputs", "problem", "those of the support follow its inputs"),
    (Tasks("real", broken.shuffled_values), "labels fit inputs", "problem", "Values are out of step: those of the"),
    (Tasks(spoil=broken.all_shuffled), "labels fit inputs", "note", "Not to be told"),
    (Tasks(spoil=broken.seen_queries), "support apart from query", "problem", "240 of 480 queries stand in their"),
]


@pytest.mark.parametrize(("source", "check", "verdict", "sentence"), SPOILT)
def test_a_spoilt_source_is_found(source: Tasks, check: str, verdict: str, sentence: str) -> None:
    learner = MAML(mlp(), 2, "real", inner_steps=1) if source.target == "real" else Prototypes()
    report = found(learner, source)
    assert any(finding.verdict == verdict and re.search(sentence, finding.found) for finding in report.of(check)), str(
        report
    )
    assert report.healthy == (verdict == "note")


GOOD = [
    "protonet",
    "protonet-batchnorm",
    "maml",
    "maml-first-order",
    "maml-transductive",
    "maml-real",
    "reptile",
    "knn",
]


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in GOOD], ids=lambda row: row.name)
def test_good_learners_are_healthy(row) -> None:  # type: ignore[no-untyped-def]
    report = found(make(row, torch.float32), Tasks(row.target))
    assert report.healthy, str(report)
    notes = [finding.found for finding in report.findings if finding.verdict == "note"]
    assert all("a bias before a norm" in note or "did not fall" in note for note in notes) or row.name == "reptile", (
        notes
    )


def test_one_cause_is_one_problem() -> None:
    """A layer without a second derivative, a learner that fails: one problem, and elsewhere "see above"."""
    for learner in (maml_with(Once()).float(), broken.Fails()):
        report = found(learner)
        assert len(report.problems) == 1, str(report)
        assert "fails as in a line above" in report.of("training shows in testing")[0].found, str(report)


def test_what_changes_agrees_with_its_verb() -> None:
    said = [finding.found for finding in found(broken.CentresTasks()).of("tasks apart")]
    assert "a task's loss changes by" in said[0] and "a task's predictions change by" in said[1]


# Rows whose loss may fall to that of guessing while predictions stay at chance: no fault, only nothing learned yet.
SEEDS = [
    pytest.param(row, seed, marks=() if row.name == "cavia-tasknorm" else pytest.mark.e2e, id=f"{row.name}-{seed}")
    for row in ALL_ROWS
    for seed in (range(3, 6) if row.name.startswith("cavia") else range(2))
]


@pytest.mark.parametrize(("row", "seed"), SEEDS)
def test_no_learner_of_ours_is_called_out_of_step(row, seed: int) -> None:  # type: ignore[no-untyped-def]
    tasks = Tasks(row.target)
    episode = moved_dtype(tasks.episodes(range(2 * seed, 2 * seed + 2)), torch.float64)
    with generators_kept():
        (finding,) = check_learning(Patient(make(row, torch.float32, seed), tasks, episode, seed))
    assert finding.verdict != "problem", finding.found


def test_a_learner_that_ignores_its_support_is_not_called_out_of_step() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learner = broken.IgnoresTheSupport()
    (finding,) = found(learner).of("training shows in testing")
    assert finding.verdict == "ok", finding.found


@pytest.mark.parametrize("build", [Prototypes, Steps, broken.BatchesToo])
def test_the_broken_ones_are_healthy_but_for_their_fault(build: Callable[[], AbstractLearner]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        report = found(build())
    assert [finding.verdict for finding in report.findings if finding.verdict != "ok"] == [], str(report)


def test_the_learner_is_left_as_it_was() -> None:
    learner, noisy = broken.WritesInTesting().train(), broken.NumpyNoise()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.net.linears[0].weight.grad = torch.ones(6, FEATURES)  # type: ignore[union-attr,index]
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    state = generators()
    found(learner), found(noisy)
    assert generators() == state
    assert learner.training and next(learner.parameters()).dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert float(learner.net.linears[0].weight.grad.sum()) == 6 * FEATURES  # type: ignore[union-attr,index]


def test_twice_the_same_report() -> None:
    assert found(Steps()) != found(Steps(graph=False))
    learner = Steps()
    assert found(learner) == found(learner)


def test_one_task_is_too_few_to_see_them_touch() -> None:
    report = found(Prototypes(), tasks=1)
    assert report.of("tasks apart") == [
        Finding("tasks apart", "note", "Not looked at: a single task.", "Give tasks=2 or more.")
    ]


def test_the_order_of_single_rows() -> None:
    def first_rows(episode: Episode) -> Episode:
        return replace(episode, support=episode.support.rows(slice(0, 1)), query=episode.query.rows(slice(0, 4)))

    report = found(MAML(mlp(), 2, "real", inner_steps=1), Tasks("real", first_rows))
    assert report.of("support order") == [
        Finding("support order", "note", "Not looked at: the supports have a single row.")
    ]


@pytest.mark.parametrize(
    ("steps", "first_row", "verdict", "sentence"),
    [
        (0, 0.0, "ok", "does not matter"),
        (200, 0.0, "note", r"amplify rounding: a relative change of 1e-14 in .* Reordering does no more than that"),
        (40, 0.0, "note", "amplify rounding"),
        (0, 0.1, "problem", "but the learner declares order_invariant=True"),
        (15, 0.1, "problem", "but the learner declares order_invariant=True"),  # some amplification excuses nothing
    ],
)
def test_amplified_rounding_is_no_order(steps: int, first_row: float, verdict: str, sentence: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learner = broken.AmplifiesRounding(steps, first_row=first_row)
    tasks = Tasks()
    episode = moved_dtype(tasks.episodes(range(2)), torch.float64)
    (finding,) = check_order(Patient(learner, tasks, episode, 0))
    assert finding.verdict == verdict and re.search(sentence, finding.found), finding.found
    assert bool(finding.advice) == (verdict != "ok")


@pytest.mark.parametrize(("spread", "transform"), [(1e-4, "none"), (1e-6, "l2")])
def test_adam_at_collapsed_features_is_no_order(spread: float, transform: Transform) -> None:
    """1,000 steps of TIM; at 1e-6 a support moved by rounding is rounded away, and only moved weights tell."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learner, tasks = TIM(mlp(), classes=9, transform=transform), Tasks()
    first = next(layer for layer in learner.modules() if isinstance(layer, nn.Linear))
    first.weight.data *= spread  # features are the bias's, nearly
    episode = moved_dtype(tasks.episodes(range(2)), torch.float64)
    (finding,) = check_order(Patient(learner, tasks, episode, 0))
    assert finding.verdict == "note" and "amplify rounding" in finding.found, finding.found


@pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: row.name)
def test_whether_the_order_matters_is_as_our_learners_say(row) -> None:  # type: ignore[no-untyped-def]
    """By measurement on regular and padded tasks; what declares itself ordered is seen to be so."""
    learner = make(row, torch.float32)
    whole = moved_dtype(Tasks(row.target).episodes(range(2)), torch.float64)
    for episode in (whole, ragged_of(whole, any_way=learner.traits.any_way)):
        (finding,) = check_order(Patient(learner, Tasks(row.target), episode, 0))
        if learner.traits.order_invariant:
            exact = row.tolerance < 1e-8  # the others stop early, and say so in their row
            assert finding.verdict == "ok" or (finding.verdict == "note" and not exact), finding.found
        else:
            assert finding.verdict == "note" and "matters, as declared" in finding.found and finding.advice


def test_a_learner_that_refuses_to_adapt_untrained() -> None:
    """It is looked at after one batch, and the table says so; a learner that was trained is not touched."""
    learner = SimpleShot(mlp("batch"), classes=9)
    report = found(learner)
    assert report.healthy, report.to_text()
    note = next(finding for finding in report.findings if finding.check == "trained")
    assert note.verdict == "note" and "refuses to adapt" in note.found and not float(learner.base.batches)
    learner.absorb(learner.batch_loss(Tasks().episodes(range(2)).support.tasks(slice(0, 1))).carried)
    assert "trained" not in [finding.check for finding in found(learner).findings]


def test_what_it_cannot_look_at() -> None:
    with pytest.raises(InputError, match=r"needs a learner \(quickstudy's AbstractLearner\), received MLP"):
        quickstudy.doctor(mlp(), Tasks())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"needs a task source \(quickstudy's TaskSource\), received str"):
        quickstudy.doctor(Prototypes(), "omniglot")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs tasks of at least 1 and a seed of at least 0, received 0 and 0"):
        quickstudy.doctor(Prototypes(), Tasks(), tasks=0)


def test_the_table() -> None:
    report = Report(
        "MAML",
        (
            Finding("labels", "ok", "In range."),
            Finding("queries apart", "problem", "They change " + 20 * "and change ", "Normalise otherwise."),
        ),
    )
    lines = report.to_text(width=80).splitlines()
    assert lines[0] == "labels         ok       In range."
    assert lines[1].startswith("queries apart  problem  They change and")
    assert "                        -> Normalise otherwise." in lines
    assert lines[-1] == "MAML: 1 problem in 2 lines."
    assert max(map(len, lines)) <= 80
    document = json.loads(report.to_json())
    assert document["healthy"] is False and document["findings"][1]["advice"] == "Normalise otherwise."


def test_every_check_has_a_broken_learner() -> None:
    shown = {check for _, check, _, _ in BROKEN} | {check for _, check, _, _ in SPOILT}
    assert set(CHECKS) <= shown
