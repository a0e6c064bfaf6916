"""Floor 5: checks of what must not touch: tasks, queries, buffers, generators, ways to run a network."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from quickstudy.doctor.measures import (
    PhaseLoss,
    apart_and_together,
    generators,
    gradients,
    outputs,
    phase_losses,
    query_portions,
    seeded,
    tensors_of,
    with_strategy,
)
from quickstudy.doctor.patient import Patient, difference, listed
from quickstudy.doctor.report import Finding
from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner

__all__ = ["check_generators", "check_queries", "check_same_key", "check_strategies", "check_tasks", "check_writing"]

TASKS, WRITING, QUERIES = "tasks apart", "nothing written", "queries apart"
STRATEGIES, SAME_KEY, GENERATORS = "strategies", "same key, same result", "global generators"
_TOLERANCE = 1e-8


def check_tasks(patient: Patient) -> list[Finding]:
    """Tasks computed together and each alone, in training and in testing."""
    if patient.episode.n_task < 2:
        return [Finding(TASKS, "note", "Not looked at: a single task.", "Give tasks=2 or more.")]
    found = []
    if patient.traits.trainable and "episodes" in patient.traits.phases:
        found.append(("training", *apart_and_together(_looping(patient, True), patient.episode, loss=True)))
    found.append(("testing", *apart_and_together(_looping(patient, False), patient.episode, loss=False)))
    findings = []
    for when, alone, together in found:
        moved = difference(alone, together)
        what = "loss changes" if when == "training" else "predictions change"
        if moved > _TOLERANCE:
            findings.append(
                Finding(
                    TASKS,
                    "problem",
                    f"In {when}, a task's {what} by {moved:.1e} with the tasks beside it{_culprits(patient.learner)}.",
                    "Run the network by quickstudy.nets.apply, which keeps the tasks apart, and take sums, norms and "
                    "statistics along the rows of one task only, never along the task axis.",
                )
            )
    return findings or [Finding(TASKS, "ok", "Each task is answered as if it were alone, in training and in testing.")]


def _looping(patient: Patient, training: bool) -> AbstractLearner:
    """A copy that runs its network task by task, so that rounding is the same for one task and for all.

    Whether the other ways give the same is a question of its own; see :func:`check_strategies`.
    """
    learner = patient.steady(training=training)
    return with_strategy(learner, "loop") or learner


def _culprits(learner: AbstractLearner) -> str:
    """Layers of torch that pool what they are given."""
    names = [name for name, layer in learner.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    return f": perhaps by the norm statistics of {listed(names, 2)}" if names else ""


_ANSWERS = "adapt and predict"


def _calls(patient: Patient) -> list[PhaseLoss | None]:
    """What is called in training, each loss in its phase, and in testing (None)."""
    return [None, *phase_losses(patient.copy(training=True), patient.episode, patient.keys)]


def check_writing(patient: Patient) -> list[Finding]:
    """Weights, buffers, flags and inputs after ``adapt``, ``predict`` and each loss."""
    calls = _calls(patient)
    findings = [finding for loss in calls for finding in _written(patient, loss)]
    said = ", ".join(["adapt", "predict"] + [loss.name for loss in calls if loss is not None])
    return findings or [Finding(WRITING, "ok", f"Weights, buffers and inputs are left alone by {said}.")]


def _written(patient: Patient, loss: PhaseLoss | None) -> list[Finding]:
    learner, findings = patient.copy(training=loss is not None), []
    data = patient.episode if loss is None else loss.data
    mine, when = copy.deepcopy(data), _ANSWERS if loss is None else loss.name
    if loss is not None:
        loss.begun(learner)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    flags = {name: layer.training for name, layer in learner.named_modules()}
    with seeded():
        if loss is not None:
            replace(loss, data=mine)(learner)
        elif isinstance(mine, Episode):
            outputs(learner, mine, patient.keys)
    changed = [name for name, value in learner.state_dict().items() if not _equal(before[name], value)]
    turned = [name or "the learner" for name, layer in learner.named_modules() if layer.training != flags.get(name)]
    if changed:
        advice = (
            "Norm statistics of a test task must not stay: call eval(), and run networks by nets.apply."
            if loss is None
            else "Return it in MetaLoss.carried and write it in absorb; by nets.apply norms do so by themselves."
        )
        findings.append(Finding(WRITING, "problem", f"{when} wrote into {listed(changed)}.", advice))
    if turned:
        advice = "Do not call train() or eval() inside; nets.apply and the engine do."
        findings.append(Finding(WRITING, "problem", f"{when} turned the mode of {listed(turned)}.", advice))
    if not all(map(_equal, tensors_of(data), tensors_of(mine))):
        advice = "Replace operations that end in an underscore, and assignments to x[...], by plain ones."
        findings.append(Finding(WRITING, "problem", f"{when} wrote into its inputs.", advice))
    return findings


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and difference(a.double(), b.double()) == 0


def check_queries(patient: Patient) -> list[Finding]:
    """Predictions when queries are reordered, split or dropped."""
    learner = patient.copy(training=False)
    portions = query_portions(learner, patient.episode, patient.keys)
    moved = {name: difference(apart, together) for name, apart, together in portions}
    worst = max(moved, key=lambda name: moved[name])
    depends = moved[worst] > _TOLERANCE
    if patient.traits.transductive:
        if depends:
            return [Finding(QUERIES, "ok", "Transductive, as declared; it is printed beside every figure.")]
        return [
            Finding(
                QUERIES,
                "note",
                "Declared transductive, but no prediction depends on the queries beside it.",
                "Declare transductive=False, if that is so for all tasks.",
            )
        ]
    if depends:
        return [
            Finding(
                QUERIES,
                "problem",
                f"Predictions change by {moved[worst]:.1e} when the queries are {worst}{_culprits(patient.learner)}, "
                "but the learner declares itself inductive: figures would depend on how queries are batched.",
                "Normalise with the support's statistics (norm='task') or running ones, or declare transductive=True.",
            )
        ]
    return [Finding(QUERIES, "ok", "A prediction depends on the support and that query alone.")]


def check_same_key(patient: Patient) -> list[Finding]:
    """The same key twice, with the global generators elsewhere."""
    learner = patient.copy(training=False)
    found = []
    for seed in (1, 2):
        with seeded(seed):
            found.append(outputs(learner, patient.episode, patient.keys))
    moved = difference(*found)
    if moved == 0:
        return [Finding(SAME_KEY, "ok", "Twice the same to the last bit.")]
    return [
        Finding(
            SAME_KEY,
            "problem",
            f"The same tasks with the same key give predictions that differ by {moved:.1e}.",
            "Draw from key (quickstudy.keys) instead of a global generator; switch dropout off in eval mode.",
        )
    ]


def check_generators(patient: Patient) -> list[Finding]:
    """Torch's, NumPy's and Python's global generators after each call."""
    findings = []
    for loss in _calls(patient):
        learner, when = patient.copy(training=loss is not None), _ANSWERS if loss is None else loss.name
        if loss is not None:
            loss.begun(learner)
        before = generators()
        if loss is not None:
            loss(learner)
        else:
            outputs(learner, patient.episode, patient.keys)
        used = [name for name, a, b in zip(("torch", "NumPy", "Python"), before, generators(), strict=True) if a != b]
        if not used:
            continue
        dropout = [name for name, layer in learner.named_modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]
        if loss is not None and dropout and used == ["torch"]:
            found = f"{when} draws from torch's generator, by the dropout of {listed(dropout, 2)}; the engine seeds it."
            findings.append(Finding(GENERATORS, "note", found))
        else:
            found = f"{when} draws from the global generator of {' and '.join(used)}."
            findings.append(Finding(GENERATORS, "problem", found, "Draw from key (quickstudy.keys) instead."))
    return findings or [Finding(GENERATORS, "ok", "Left alone.")]


def check_strategies(patient: Patient) -> list[Finding]:
    """Loop, vmap and batched form: same loss, same gradient."""
    traits = patient.traits
    if not traits.trainable or "episodes" not in traits.phases:
        return [Finding(STRATEGIES, "ok", "Not looked at: no meta-loss to compare.")]
    base, findings, agreed = patient.steady(training=True), [], []
    reference: list[Tensor] | None = None
    for strategy in ("loop", "vmap", "batched"):
        learner = with_strategy(base, strategy)
        if learner is None:
            continue
        try:
            found = _loss_and_gradient(patient, learner)
        except (InputError, RuntimeError, NotImplementedError, ValueError) as error:
            said = str(error).splitlines()[0][:160]
            if reference is None:  # the plain loop itself fails: another check says why
                return [Finding(STRATEGIES, "note", f"Not looked at: {said}")]
            advice = "Nothing, if 'auto' runs well: it takes what fits."
            findings.append(Finding(STRATEGIES, "note", f"{strategy!r} cannot run this network: {said}", advice))
            continue
        if reference is None:
            reference = found
        moved = max(difference(a, b) for a, b in zip(found, reference, strict=True))
        if moved > _TOLERANCE:
            findings.append(
                Finding(
                    STRATEGIES,
                    "problem",
                    f"{strategy!r} gives another loss or gradient than 'loop': they differ by {moved:.1e}.",
                    "Mend the network's batched(params, x), or what depends on the shape of its input; until then "
                    "strategy='loop'.",
                )
            )
        else:
            agreed.append(strategy)
    if not agreed:
        return [Finding(STRATEGIES, "ok", "No choice to make: the learner has no option strategy.")]
    if len(agreed) > 1 or not findings:
        findings.append(Finding(STRATEGIES, "ok", f"{' and '.join(agreed)}: same loss and gradient."))
    return findings


def _loss_and_gradient(patient: Patient, learner: AbstractLearner) -> list[Tensor]:
    with seeded():
        loss = learner.meta_loss(patient.episode, key=patient.keys).loss.detach()
        grads = gradients(learner, lambda learner: learner.meta_loss(patient.episode, key=patient.keys))
    return [loss, *(torch.zeros(()) if g is None else g for g in grads)]
