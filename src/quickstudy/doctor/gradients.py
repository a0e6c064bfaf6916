"""Floor 5: checks of the meta-gradient: is it there, is it right, is it of the order that was promised?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.doctor.measures import (
    PhaseLoss,
    central_difference,
    directions,
    filled,
    first_order,
    gradients,
    phase_losses,
    seeded,
)
from quickstudy.doctor.patient import Patient, listed
from quickstudy.doctor.reach import Gradients, check_reach, largest_gradients, phase_gradients
from quickstudy.doctor.report import Finding
from quickstudy.episode import Classes
from quickstudy.errors import InputError
from quickstudy.inner import explained
from quickstudy.learners.learner import AbstractLearner
from quickstudy.nets.norms import AbstractNorm
from quickstudy.nets.secondorder import blamed_layer

__all__ = ["check_meta_gradient"]

ZERO = "gradients that are zero"
SLOPE, ORDER, TWICE = "meta-gradient", "second order", "second derivatives"
BATCHES = "gradient of batch_loss"
_STEPS = (1e-5, 1e-4, 1e-6, 1e-7)


def check_meta_gradient(patient: Patient) -> list[Finding]:
    """All that concerns gradients, in one go: the later questions need the answers to the earlier."""
    if not patient.traits.trainable:
        return [Finding(SLOPE, "ok", "Nothing to train: the learner declares trainable=False.")]
    learner, grads = patient.copy(training=True), dict[PhaseLoss, Gradients]()
    for loss in phase_losses(learner, patient.episode, patient.keys):
        trial = loss.begun(patient.copy(training=True))
        try:
            grads[loss] = phase_gradients(trial, loss)
        except RuntimeError as error:
            said = _without_derivative(error, trial, loss)
            if said is None:
                raise
            return [said]
    reached = check_reach(learner, patient.episode, {loss.name: found for loss, found in grads.items()})
    if not grads or not all(any(g is not None for g in found) for found in grads.values()):
        return [reached]  # no loss to look at, or one that depends on no parameter: there is no more to ask
    findings = [reached, *_zeros(patient, learner, largest_gradients(learner, grads.values()))]
    for loss, found in sorted(grads.items(), key=lambda pair: pair[0].name != "meta_loss"):
        findings += _order(patient, loss, found) if loss.name == "meta_loss" else [_of_batches(patient, loss, found)]
    return findings


def _without_derivative(error: RuntimeError, learner: AbstractLearner, loss: PhaseLoss) -> Finding | None:
    """A missing derivative as a line that names the layer; None for other errors."""
    said = explained(error, lambda: blamed_layer(learner, loss))
    if not isinstance(said, InputError):
        return None
    found, _, advice = str(said).partition(" Use ")
    return Finding(TWICE, "problem", found, f"Use {advice}")


def _of_batches(patient: Patient, loss: PhaseLoss, grads: Gradients) -> Finding:
    """Finite differences of a plain loss, whose gradient is always meant to be exact."""
    learner = loss.begun(patient.copy(training=True))
    agrees, found = _slopes(learner, loss, filled(learner, grads))
    verdict = {True: "ok", None: "note", False: "problem"}[agrees]
    advice = "" if agrees else _SLOPE_ADVICE[agrees].partition("; or declare")[0].rstrip(".") + "."
    return Finding(BATCHES, verdict, found, advice)  # type: ignore[arg-type]


def _zeros(patient: Patient, learner: AbstractLearner, largest: dict[str, Tensor | None]) -> list[Finding]:
    """Parameters, and rows of a head, whose gradient is nothing but rounding."""
    grads = {name: grad for name, grad in largest.items() if grad is not None}
    scale = max((float(g.abs().max()) for g in grads.values()), default=0.0)
    if scale == 0:
        return [Finding(ZERO, "problem", "Every gradient is exactly zero: nothing would train.", _DEAD)]
    small = 1e-12 * scale  # a bias before a norm has rounding instead of zero
    target = patient.episode.support.target
    way = int(target.way.max()) if isinstance(target, Classes) else 0
    findings = []
    by_reason: dict[str, list[str]] = {}
    for name, grad in grads.items():
        if float(grad.abs().max()) <= small:
            by_reason.setdefault(_reason(learner, name, classes=way > 0), []).append(name)
    for reason, names in by_reason.items():
        findings.append(Finding(ZERO, "note", f"The gradient of {listed(names)} is zero: {reason}.", _DEAD))
    heads = {n: g for n, g in grads.items() if n.rpartition(".")[0].endswith("head") and len(g) > way > 0}
    rows = [name for name, grad in heads.items() if float(grad[way:].abs().max()) <= small]
    if rows:
        found = f"Rows from {way} on of {listed(rows)} have no gradient: these tasks have {way} classes."
        findings.append(Finding(ZERO, "note", found, f"Build the learner with outputs={way}, unless that is meant."))
    return findings or [Finding(ZERO, "ok", "None.")]


_DEAD = "Leave that parameter out (bias=False before a norm), or look for dead units; zero on all tasks trains nothing."


_NORMS = (AbstractNorm, nn.modules.batchnorm._NormBase)


def _reason(learner: AbstractLearner, name: str, *, classes: bool) -> str:
    """Why a gradient is zero, where it is known."""
    owner, _, field = name.rpartition(".")
    layers = dict(learner.named_modules())
    unknown = "no reason known, such as units that are dead or saturated on these tasks"
    if owner.rpartition(".")[2] == "head":  # first: it comes after all norms
        shared = classes and learner.get_parameter(name).shape[0] == 1
        return "what all classes of a shared head have in common, softmax does not see" if shared else unknown
    norms = [(n, part) for n, part in layers.items() if isinstance(part, _NORMS)]
    if field == "bias" and norms and not isinstance(layers[owner], _NORMS):
        holder = owner.rpartition(".")[0]
        near = next((kind for n, kind in norms if n.startswith(holder.rpartition(".")[0])), norms[0][1])
        return f"a bias before a norm ({type(near).__name__}), which takes it away again"
    return unknown


def _order(patient: Patient, loss: PhaseLoss, grads: Gradients) -> list[Finding]:
    """Finite differences, and what is left of the gradient without the second-order term."""
    learner, promised = loss.begun(patient.copy(training=True)), patient.traits.exact_meta_gradient
    whole = filled(learner, grads)
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
