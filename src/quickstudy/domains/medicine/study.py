"""Floor 5: what is compared in medicine: one of four hospitals is new, and a few of its patients are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from quickstudy.data.grouptasks import GroupTasks
from quickstudy.data.heart import HeartDisease
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.domains.medicine.patients import FIGURES, Said, compared, said_of
from quickstudy.domains.medicine.pooled import PooledAndSupport, Prevalence, pooled, training_patients
from quickstudy.domains.study import Column, Found, Rival, Study
from quickstudy.evaluate import Section
from quickstudy.evaluate.calibration import (
    Answers,
    answers,
    calibration_section,
    conformal_sets,
    one_row_a_task,
    threshold,
)
from quickstudy.evaluate.wording import number
from quickstudy.learners.boosting import Boosting
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.logistic import Logistic

__all__ = ["cleveland", "hungarian", "in_context", "kinds", "switzerland", "va"]

SUPPORTS = (5, 10, 20)
EPISODES = 200
ALPHA = 0.1

_NO_DEVICE = (
    "No medical device: nothing here was made or tested to diagnose anybody.",
    "Four hospitals, and one is new at a time: the interval over episodes is about which few patients were labelled, "
    "that over patients about patients of this hospital. Nothing is said of a fifth hospital, nor of meta-learning in "
    "general.",
)


def va() -> Study:
    """The V.A. Medical Center, Long Beach, is new."""
    return _of("medicine", "va")


def cleveland() -> Study:
    """The Cleveland Clinic is new."""
    return _of("medicine-cleveland", "cleveland")


def hungarian() -> Study:
    """The Hungarian Institute of Cardiology, Budapest, is new."""
    return _of("medicine-hungarian", "hungarian")


def switzerland() -> Study:
    """The university hospitals of Zurich and Basel are new; eight of their 123 patients have no disease."""
    return _of("medicine-switzerland", "switzerland")


def in_context() -> Study:
    """The transformer that reads tables, instead of MAML; the V.A. Medical Center is new."""
    return replace(_of("medicine-in-context", "va"), recipe="heart-tabular-in-context-fast")


def kinds() -> Study:
    """MedNIST: three kinds of pictures that training has not seen."""
    return Study(
        name="medicine-pictures",
        recipe="mednist-protonet-fast",
        plain="mednist-simpleshot-fast",
        rivals=(Rival("logistic regression on pixels", lambda shape, training: Logistic(c=0.001)),),
        columns=(
            Column("3-way 1-shot", {"way": 3, "shot": 1, "query": 15}),
            Column("3-way 5-shot", {"way": 3, "shot": 5, "query": 15}),
        ),
        episodes=400,
        notes=(_NO_DEVICE[0], "The kinds are told apart by their modality: a demonstration, and no claim."),
    )


def _of(name: str, hospital: str) -> Study:
    return Study(
        name=name,
        recipe="heart-maml-fast",
        plain="heart-fine-tune-fast",
        rivals=(
            Rival("prevalence in the support", lambda shape, training: Prevalence()),
            Rival("logistic, this hospital", lambda shape, training: Logistic(c=0.5)),
            Rival("boosting, this hospital", lambda shape, training: Boosting(trees=20, min_leaf=3), 50),
            Rival("logistic, other hospitals", pooled(_logistic)),
            Rival("boosting, other hospitals", pooled(_boosting)),
            Rival("network, other hospitals", pooled(_network)),
            Rival("logistic, all hospitals", _both),
        ),
        columns=tuple(Column(f"{n} labelled patients", {"shot": n, "query": [10, 400]}) for n in SUPPORTS),
        episodes=EPISODES,
        overrides={"data.hospital": hospital},
        sections=_sections,
        notes=_NO_DEVICE,
    )


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, max_iter=1000)


def _boosting() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=60, learning_rate=0.05, min_samples_leaf=10, random_state=0)


def _network() -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((64, 64), alpha=1.0, max_iter=60, random_state=0)


def _both(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    return PooledAndSupport(*training_patients(training))


def _sections(found: Found) -> Sequence[Section]:
    """Calibration, patients and conformal sets, with the most labelled patients."""
    column, source = list(found.sources.items())[-1]
    assert isinstance(source, GroupTasks)
    chosen = ("logistic, other hospitals", "boosting, other hospitals", "logistic, all hospitals")
    every: dict[str, AbstractLearner] = {"meta-trained": found.learner}
    every |= {name: rival for name, rival in found.rivals.items() if name in chosen}
    said = {name: said_of(learner, source, EPISODES) for name, learner in every.items()}
    outside = {name: one.answers for name, one in said.items()}
    settings = source.settings
    data = HeartDisease(found.data_root, **{name: settings[name] for name in ("hospital", "validation", "without")})
    inside = data.tasks("validation", shot=settings["shot"], query=[6, 200], seed=0)
    return (
        calibration_section(outside, f"Calibration and abstention, {column}"),
        _patients(said, column),
        _conformal(every, inside, outside, column),
    )


def _patients(said: dict[str, Said], column: str) -> Section:
    def shown(pair: tuple[float, float], *, sign: bool = False) -> str:
        return f"{number(pair[0], 'brier', sign=sign)} ± {number(pair[1], 'brier')}"

    def cells(name: str, first: bool) -> tuple[str, ...]:
        pairs = [compared(said, figure)[name] for figure in FIGURES]
        return tuple(cell for own, gap in pairs for cell in (shown(own), "" if first else shown(gap, sign=True)))

    rows = [(name, *cells(name, not place)) for place, name in enumerate(said)]
    patients = len(next(iter(said.values())).effects[FIGURES[0]])
    return Section(
        f"Over patients, {column}",
        text=(
            f"Means over the tasks with 95 % intervals over the {patients} patients that all tasks ask for; and by how "
            "much a method's figure is above the meta-trained learner's, in pairs.",
        ),
        head=("", "area under the ROC curve", "larger by", "Brier score", "larger by"),
        rows=rows,
    )


def _conformal(
    every: dict[str, AbstractLearner], inside: TaskSource, outside: dict[str, Answers], column: str
) -> Section:
    rows = []
    for name, learner in every.items():
        calibrating = one_row_a_task(answers(learner, inside, episodes=EPISODES))
        at_least = threshold(calibrating.p[np.arange(len(calibrating.y)), calibrating.y], ALPHA)
        other = answers(learner, inside, episodes=EPISODES, first=EPISODES)
        rows.append((name, *_covered(other, at_least), *_covered(outside[name], at_least)))
    return Section(
        f"Conformal sets that should hold the truth {100 * (1 - ALPHA):.0f} % of the time, {column}",
        text=(
            "The threshold is that of one patient of each of 200 validation tasks, of the training hospitals. Coverage "
            "is promised on average over tasks that are exchangeable with those, and for no single patient, class or "
            "hospital; the new hospital's tasks are not exchangeable with them, so nothing is promised there. "
            "Validation tasks share their patients, so that even inside the promise holds only about.",
        ),
        head=(
            "",
            "covered, other tasks of these",
            "classes a set",
            "covered, the new hospital",
            "classes a set",
        ),
        rows=rows,
    )


def _covered(found: Answers, at_least: float) -> tuple[str, str]:
    sets = conformal_sets(found.p, at_least)
    held = float(sets[np.arange(len(found.y)), found.y].mean())
    return f"{100 * held:.1f} %", f"{sets.sum(1).mean():.2f}"
