"""Floor 5: checks of the meta-gradient: is it there, is it right, is it of the order that was promised?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.doctor.measures import (
    PhaseLoss,
    batch_of,
    central_difference,
    directions,
    first_order,
    gradients,
    phase_losses,
    seeded,
)
from quickstudy.doctor.patient import Patient, listed
from quickstudy.doctor.report import Finding
from quickstudy.episode import Classes
from quickstudy.errors import InputError
from quickstudy.inner import explained
from quickstudy.learners.learner import AbstractLearner
from quickstudy.nets.norms import AbstractNorm
from quickstudy.nets.secondorder import blamed_layer

__all__ = ["check_meta_gradient"]

GRAPH, ZERO = "parameters in the graph", "gradients that are zero"
SLOPE, ORDER, TWICE = "meta-gradient", "second order", "second derivatives"
BATCHES = "gradient of batch_loss"
_STEPS = (1e-5, 1e-4, 1e-6, 1e-7)
_NO_GRAD = "does not require grad"


def check_meta_gradient(patient: Patient) -> list[Finding]:
    """All that concerns gradients, in one go: the later questions need the answers to the earlier."""
    if not patient.traits.trainable:
        return [Finding(SLOPE, "ok", "Nothing to train: the learner declares trainable=False.")]
    learner = patient.copy(training=True)
    losses = phase_losses(learner, patient.episode, patient.keys)
    batches = [finding for loss in losses if loss.name != "meta_loss" for finding in _of_batches(patient, loss)]
    meta_loss = next((loss for loss in losses if loss.name == "meta_loss"), None)
    if meta_loss is None:
        return [*_graph(patient, None), *batches]
    try:
        with seeded():
            grads = gradients(learner, meta_loss)
    except RuntimeError as error:
        if _NO_GRAD in str(error):
            return [_nothing_trains()]
        said = explained(error, lambda: blamed_layer(learner, lambda trial: trial.meta_loss(patient.episode)))
        if not isinstance(said, InputError):
            raise
        found, _, advice = str(said).partition(" Use ")
        return [Finding(TWICE, "problem", found, f"Use {advice}")]
    return [*_graph(patient, grads), *_order(patient, learner, meta_loss, grads), *batches]


def _of_batches(patient: Patient, loss: PhaseLoss) -> list[Finding]:
    """Finite differences of a plain loss, whose gradient is always meant to be exact."""
    learner = loss.begun(patient.copy(training=True))
    with seeded():
        grads = gradients(learner, loss)
    if all(g is None for g in grads):
        return []  # told already
    agrees, found = _slopes(learner, loss, _filled(learner, grads))
    verdict = {True: "ok", None: "note", False: "problem"}[agrees]
    advice = "" if agrees else _SLOPE_ADVICE[agrees].partition("; or declare")[0].rstrip(".") + "."
    return [Finding(BATCHES, verdict, found, advice)]  # type: ignore[arg-type]


def _filled(learner: AbstractLearner, grads: list[Tensor | None]) -> list[Tensor]:
    """Zero where a parameter is not in the graph."""
    return [torch.zeros_like(p) if g is None else g for p, g in zip(learner.parameters(), grads, strict=True)]


def _nothing_trains() -> Finding:
    return Finding(
        GRAPH,
        "problem",
        "The meta-loss depends on no parameter: nothing would train.",
        "Look for .detach(), .data, torch.no_grad() or a freshly made tensor between the parameters and the loss.",
    )


def _graph(patient: Patient, grads: list[Tensor | None] | None) -> list[Finding]:
    """Parameters without a gradient, and those whose gradient is zero."""
    learner = patient.copy(training=True)
    losses, notes = [] if grads is None else [grads], []
    said = "meta_loss"
    if "batches" in patient.traits.phases:
        found = _batch_gradients(patient, learner)
        if isinstance(found, Finding):
            if grads is None:
                return [found]
            notes.append(found)
        else:
            losses.append(found)
            said = "batch_loss" if grads is None else "meta_loss or batch_loss"
    best = {}
    for i, (name, p) in enumerate(learner.named_parameters()):
        if p.requires_grad and p.numel():
            there = [g for each in losses if (g := each[i]) is not None]
            best[name] = max(there, key=lambda g: float(g.abs().max()), default=None)
    if notes:  # a parameter may be trained by the loss that was not looked at
        return notes + _zeros(patient, learner, {name: g for name, g in best.items() if g is not None})
    outside = [name for name, grad in best.items() if grad is None]
    findings = [_reached(outside, said, len(best), batches_only=grads is None)]
    return findings + _zeros(patient, learner, {name: g for name, g in best.items() if g is not None})


def _reached(outside: list[str], loss: str, count: int, *, batches_only: bool) -> Finding:
    """What to say of the parameters that no gradient reaches."""
    if not outside:
        return Finding(GRAPH, "ok", f"A gradient of {loss} reaches all {count} parameters that are not frozen.")
    found = f"No gradient of {loss} reaches {listed(outside)}"
    if batches_only:  # what only adapting uses starts each task as it was built
        found += ": training does not change them, only adapting does."
        return Finding(GRAPH, "note", found, "Nothing, if each task is meant to start from them as built.")
    found += ": .grad stays None, and training would not change them."
    advice = (
        "Look for .detach(), .data or torch.no_grad() on the way to the loss, or a layer that is built but not called. "
        "What is meant to stay: requires_grad_(False), or a buffer."
    )
    return Finding(GRAPH, "problem", found, advice)


def _batch_gradients(patient: Patient, learner: AbstractLearner) -> list[Tensor | None] | Finding:
    """The gradient of ``batch_loss``, or why there is none to look at."""
    batch = batch_of(patient.episode)
    if batch is None:
        found = (
            "These tasks do not say which classes they are made of (Episode.classes is None): batch_loss not looked at."
        )
        return Finding(GRAPH, "note", found, "Let the source fill in Episode.classes.")
    try:
        with seeded():
            learner.batch_loss(batch).loss.sum().backward()  # type: ignore[no-untyped-call]
    except InputError as error:
        return Finding(GRAPH, "note", f"batch_loss was not looked at: {error}")
    return [p.grad for p in learner.parameters()]


def _zeros(patient: Patient, learner: AbstractLearner, grads: dict[str, Tensor]) -> list[Finding]:
    """Parameters, and rows of a head, whose gradient is nothing but rounding."""
    scale = max((float(g.abs().max()) for g in grads.values()), default=0.0)
    if scale == 0:
        return [Finding(ZERO, "problem", "Every gradient is exactly zero: nothing would train.", _DEAD)]
    small = 1e-12 * scale  # a bias before a norm has rounding instead of zero
    findings = []
    by_reason: dict[str, list[str]] = {}
    for name, grad in grads.items():
        if float(grad.abs().max()) <= small:
            by_reason.setdefault(_reason(learner, name), []).append(name)
    for reason, names in by_reason.items():
        findings.append(Finding(ZERO, "note", f"The gradient of {listed(names)} is zero: {reason}.", _DEAD))
    target = patient.episode.support.target
    way = int(target.way.max()) if isinstance(target, Classes) else 0
    heads = {n: g for n, g in grads.items() if n.rpartition(".")[0].endswith("head") and len(g) > way > 0}
    rows = [name for name, grad in heads.items() if float(grad[way:].abs().max()) <= small]
    if rows:
        found = f"Rows from {way} on of {listed(rows)} have no gradient: these tasks have {way} classes."
        findings.append(Finding(ZERO, "note", found, f"Build the learner with outputs={way}, unless that is meant."))
    return findings or [Finding(ZERO, "ok", "None.")]


_DEAD = "Leave that parameter out (bias=False before a norm), or look for dead units; zero on all tasks trains nothing."


_NORMS = (AbstractNorm, nn.modules.batchnorm._NormBase)


def _reason(learner: AbstractLearner, name: str) -> str:
    """Why a gradient is zero, where it is known."""
    owner, _, field = name.rpartition(".")
    layers = dict(learner.named_modules())
    norms = [(n, part) for n, part in layers.items() if isinstance(part, _NORMS) and field == "bias"]
    if field == "bias" and norms and not isinstance(layers[owner], _NORMS):
        holder = owner.rpartition(".")[0]
        near = next((kind for n, kind in norms if n.startswith(holder.rpartition(".")[0])), norms[0][1])
        return f"a bias before a norm ({type(near).__name__}), which takes it away again"
    parameter = learner.get_parameter(name)
    if owner.endswith("head") and parameter.shape[0] == 1:
        return "what all classes of a shared head have in common, softmax does not see"
    return "no reason known, such as units that are dead or saturated on these tasks"


def _order(patient: Patient, learner: AbstractLearner, loss: PhaseLoss, grads: list[Tensor | None]) -> list[Finding]:
    """Finite differences, and what is left of the gradient without the second-order term."""
    promised = patient.traits.exact_meta_gradient
    whole = _filled(learner, grads)
    with seeded(), first_order() as asked:
        constant = gradients(learner, loss)
    scale = max(float(g.abs().max()) for g in whole) or 1.0
    share = max(
        float((g - (torch.zeros_like(g) if c is None else c)).abs().max()) / scale
        for g, c in zip(whole, constant, strict=True)
    )
    if not promised:
        said = "Not promised (exact_meta_gradient=False): not compared."
        return [Finding(SLOPE, "ok", said), Finding(ORDER, "ok", "First order, or a surrogate, as declared.")]
    agrees, found = _slopes(learner, loss, whole)
    missing = bool(asked) and share < 1e-10 and (agrees is False or (agrees is None and not any(asked)))
    if missing:
        order = Finding(
            ORDER,
            "problem",
            "Promised, but not there: with the inner gradients held constant the meta-gradient stays the same.",
            "Pass create_graph=True to the inner torch.autograd.grad and do not detach; or declare "
            "exact_meta_gradient=False.",
        )
    elif asked and share < 1e-10:
        order = Finding(ORDER, "note", "Nothing to see: implicit, or zero on these tasks; see the line above.")
    elif asked:
        order = Finding(ORDER, "ok", f"There: without it the gradient changes by {share:.1%} of its largest entry.")
    else:
        order = Finding(ORDER, "ok", "Not needed: no inner gradient is taken by torch.autograd.grad.")
    verdict = {True: "ok", None: "note", False: "problem"}[agrees]
    advice = "" if agrees else _SLOPE_ADVICE[agrees]
    return [Finding(SLOPE, verdict, found, advice), order]  # type: ignore[arg-type]


_SLOPE_ADVICE = {
    None: "Try a smooth network (tanh, average pooling) to be sure.",
    False: "Look for .detach(), .data, no_grad or an in-place change between the parameters and the query loss; or "
    "declare exact_meta_gradient=False.",
}


def _slopes(learner: AbstractLearner, loss: PhaseLoss, grads: list[Tensor]) -> tuple[bool | None, str]:
    """Whether the gradient is that of finite differences along several directions; None where these do not settle."""
    norm = float(torch.stack([g.square().sum() for g in grads]).sum().sqrt())
    along = directions(learner, 2)
    if norm > 0:
        along.append([g / norm for g in grads])
    worst, settled = 0.0, 0
    for direction in along:
        claimed = sum(float((g * d).sum()) for g, d in zip(grads, direction, strict=True))
        measured = _slope(learner, loss, direction, norm)
        if measured is None:
            continue
        settled += 1
        # A random direction of length 1 sees norm / sqrt(P) of the gradient: compare with what it can see.
        size = max(abs(measured), abs(claimed), 1e-9 * norm, 1e-12)
        worst = max(worst, abs(measured - claimed) / size)
    if not settled:
        return None, "Finite differences do not settle (steps h and h/2 disagree): the network has kinks here."
    name = "the meta-loss" if loss.name == "meta_loss" else loss.name
    said = f"along {settled} directions in float64, relative difference {worst:.1e}"
    if worst < 1e-4:
        return True, f"Agrees with finite differences {said}."
    return False, f"Is not the derivative of {name}: against finite differences {said}."


def _slope(learner: AbstractLearner, loss: PhaseLoss, direction: list[Tensor], norm: float) -> float | None:
    """The slope of the loss, where two step sizes agree on it (with kinks between them they do not)."""
    for h in _STEPS:
        wide, narrow = (central_difference(learner, loss, direction, step) for step in (h, h / 2))
        if abs(wide - narrow) <= 1e-5 * max(abs(wide), abs(narrow), 1e-6 * norm):
            return (4 * narrow - wide) / 3
    return None
