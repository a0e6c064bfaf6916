"""Floor 5: all checks on one learner and one source: ``quickstudy.doctor(learner, source)``."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from quickstudy.data.source import TaskSource
from quickstudy.doctor.gradients import check_meta_gradient
from quickstudy.doctor.isolation import (
    check_generators,
    check_queries,
    check_same_key,
    check_strategies,
    check_tasks,
    check_writing,
)
from quickstudy.doctor.labels import check_labels, labels_are_usable
from quickstudy.doctor.learning import check_learning
from quickstudy.doctor.measures import batch_of, generators_kept, moved_dtype
from quickstudy.doctor.memory import check_memory
from quickstudy.doctor.order import check_order
from quickstudy.doctor.patient import Check, Patient
from quickstudy.doctor.report import Finding, Report
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner
from quickstudy.nets.secondorder import misses_second_derivative

__all__ = ["CHECKS", "doctor"]

CHECKS: dict[str, Check] = {
    "labels fit inputs": check_labels,
    "meta-gradient": check_meta_gradient,
    "tasks apart": check_tasks,
    "queries apart": check_queries,
    "support order": check_order,
    "nothing written": check_writing,
    "same key, same result": check_same_key,
    "global generators": check_generators,
    "strategies": check_strategies,
    "training shows in testing": check_learning,
    "memory": check_memory,
}


def doctor(learner: AbstractLearner, source: TaskSource, *, tasks: int = 2, seed: int = 0) -> Report:
    """A self-test of a learner on tasks of a source; both are left as they were.

    Args:
        learner: trained or not; copies of it are tried, in float64.
        source: where tasks come from.
        tasks: how many are tried; two are needed to see whether they touch.
        seed: which tasks, and the learner's randomness.

    Returns:
        One line a check, each with a verdict (ok, note, problem), what was found, and what to do.

    Raises:
        InputError: it is no learner, or no task source; or no task is asked for.
    """
    for thing, kind, name in ((learner, AbstractLearner, "a learner"), (source, TaskSource, "a task source")):
        if not isinstance(thing, kind):
            raise InputError(
                f"The doctor needs {name} (quickstudy's {kind.__name__}), received {type(thing).__name__}."
            )
    if tasks < 1 or seed < 0:
        raise InputError(f"The doctor needs tasks of at least 1 and a seed of at least 0, received {tasks} and {seed}.")
    with generators_kept():
        usable = labels_are_usable(source)
        if any(finding.verdict == "problem" for finding in usable):
            usable.append(Finding("the learner", "note", "Not looked at: with such tasks it would only fail."))
            return Report(type(learner).__name__, tuple(usable))
        episode = source.episodes(range(seed * tasks, (seed + 1) * tasks))
        device = next((p.device for p in learner.parameters()), torch.device("cpu"))
        patient = Patient(learner, source, moved_dtype(episode, torch.float64).to(device), seed)
        begun = _begun(patient)
        if begun is not None:
            patient, note = begun
            usable.append(note)
        causes: set[str] = set()
        found = [finding for name, check in CHECKS.items() for finding in _looked_at(name, check, patient, causes)]
    return Report(type(learner).__name__, (*usable, *found))


def _begun(patient: Patient) -> tuple[Patient, Finding] | None:
    """A learner that refuses to adapt before it was trained, after one batch; None where there is no need or no way."""
    batch = batch_of(patient.episode)
    if batch is None or "batches" not in patient.traits.phases:
        return None
    learner = patient.copy(training=False)
    try:
        with torch.no_grad():
            learner.adapt(patient.episode.support)
        return None
    except InputError as error:
        refusal = str(error)
    except Exception:  # the checks will say what is wrong
        return None
    try:
        with torch.no_grad():
            learner.absorb(learner.batch_loss(batch).carried)
            learner.adapt(patient.episode.support)
    except Exception:
        return None
    found = f"Not trained yet, so it refuses to adapt: {refusal}"
    return replace(patient, learner=learner.to(patient.dtype)), Finding(
        "trained", "note", found, "None for the checks below: they look at a copy that has seen one batch."
    )


def _looked_at(name: str, check: Check, patient: Patient, causes: set[str]) -> list[Finding]:
    """What a check finds; where the learner itself fails in it, that is what was found, the first time.

    Args:
        name: of the check.
        check: what to run.
        patient: the learner and its tasks.
        causes: why earlier checks failed; what this one fails of is added.
    """
    try:
        # Tasks of its own, in case that an earlier check's learner wrote into them.
        found = check(replace(patient, episode=copy.deepcopy(patient.episode)))
    except Exception as error:  # whatever a learner that is not finished raises
        plain = isinstance(error, InputError)
        second = isinstance(error, RuntimeError) and misses_second_derivative(error)
        said = (str(error) or type(error).__name__).strip()
        cause = _NO_SECOND if second or said.startswith(_NO_SECOND) else f"{type(error).__name__}: {said}"
        if cause in causes:
            return [Finding(name, "note", "Not looked at: it fails as in a line above.")]
        causes.add(cause)
        advice = "Mend that first; run the same call by itself to see where."
        return [Finding(name, "problem", said if plain else f"It fails: {type(error).__name__}: {said}", advice)]
    if any(finding.found.startswith(_NO_SECOND) for finding in found):
        causes.add(_NO_SECOND)
    return found


_NO_SECOND = "Cannot take a second derivative"
