"""Floor 5: what is compared in a field, on the same tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.errors import UnknownName
from quickstudy.evaluate import Result, Section
from quickstudy.learners.learner import AbstractLearner
from quickstudy.registry import Registry

__all__ = ["Column", "Found", "Published", "Rival", "Study", "studies", "study"]


@dataclass(frozen=True)
class Column:
    """One kind of test tasks.

    Args:
        name: how the table calls it, such as ``"5-way 1-shot, English digits"``.
        tasks: arguments of ``recipes.building.test_tasks``: way, shot, query, role.
        data: overrides of the recipe's [data] for the test alone, such as ``{"data.name": "spoken-digits"}``.
    """

    name: str
    tasks: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rival:
    """A baseline of the field.

    Args:
        name: how the table calls it.
        build: makes it for tasks of a shape; it may have been fitted to the training tasks, which it is given, too.
        episodes: how many of the tasks it learns, where each takes long; None: all.
        data: overrides of the recipe's [data], where it reads the same tasks in another form, such as larger pictures.
        unasked: why no robustness is asked of it but what its test says of itself, as a sentence; empty: it is asked.
    """

    name: str
    build: Callable[[TaskShape, TaskSource], AbstractLearner]
    episodes: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    unasked: str = ""


@dataclass(frozen=True)
class Published:
    """A figure that others published on these tasks. It stands beside the table, never in it.

    Args:
        name: whose it is.
        accuracy: a fraction.
        source: where it was published, and in what it differs.
    """

    name: str
    accuracy: float
    source: str

    def __str__(self) -> str:
        """As in "people 95.5 % (Lake et al. 2015)"."""
        return f"{self.name} {100 * self.accuracy:.1f} % ({self.source})"


@dataclass(frozen=True)
class Found:
    """What a report's sections are made from.

    Args:
        learner: the meta-trained learner, in eval mode.
        sources: column -> the tasks it was tested on.
        rivals: baseline -> as it was tested.
        results: row of the table -> column -> what came out; the meta-learner is the first row.
        data_root: the folder of data sets, where it is not the usual one.
    """

    learner: AbstractLearner
    sources: Mapping[str, TaskSource]
    rivals: Mapping[str, AbstractLearner]
    results: Mapping[str, Mapping[str, Result]] = field(default_factory=dict)
    data_root: Path | None = None


@dataclass(frozen=True)
class Study:
    """A field's comparison.

    Args:
        name: of the field, such as ``"speech"``.
        recipe: of the meta-learner.
        plain: the recipe of the same network, plainly pretrained on the same training data; None where there is no such
            thing, with the reason in the field's page.
        also: recipes of other learners that are compared, too.
        rivals: baselines.
        columns: test tasks.
        episodes: how many of each kind.
        overrides: of both recipes.
        sections: the field's own parts of the report.
        notes: what its figures do not show.
        published: figures that others published on the test tasks.
    """

    name: str
    recipe: str
    plain: str | None
    rivals: Sequence[Rival]
    columns: Sequence[Column]
    episodes: int = 600
    overrides: Mapping[str, Any] = field(default_factory=dict)
    sections: Callable[[Found], Sequence[Section]] = lambda found: ()
    notes: Sequence[str] = ()
    also: Sequence[str] = ()
    published: Sequence[Published] = ()


studies = Registry(
    "study",
    "quickstudy.studies",
    {
        "one-shot": "quickstudy.domains.images.oneshot:one_shot",
        "images": "quickstudy.domains.images.study:images",
        "mini-meta-dataset": "quickstudy.domains.images.minimeta:mini_meta_dataset",
        "recommendation": "quickstudy.domains.recommendation.study:recommendation",
        "finance": "quickstudy.domains.finance.studies:volatility",
        "finance-direction": "quickstudy.domains.finance.studies:direction",
        "language": "quickstudy.domains.language.study:language",
        "language-scratch": "quickstudy.domains.language.study:language_scratch",
        "language-relations": "quickstudy.domains.language.study:language_relations",
        "speech": "quickstudy.domains.speech.study:speech",
        "control": "quickstudy.domains.control.study:navigation",
        "control-cheetah": "quickstudy.domains.control.study:cheetah",
        "control-cheetah-direction": "quickstudy.domains.control.study:directions",
        "medicine": "quickstudy.domains.medicine.study:va",
        "medicine-cleveland": "quickstudy.domains.medicine.study:cleveland",
        "medicine-hungarian": "quickstudy.domains.medicine.study:hungarian",
        "medicine-switzerland": "quickstudy.domains.medicine.study:switzerland",
        "medicine-in-context": "quickstudy.domains.medicine.study:in_context",
        "medicine-pictures": "quickstudy.domains.medicine.study:kinds",
    },
)
"""Field -> a function without arguments that gives its :class:`Study`."""


def study(name: str) -> Study:
    """The study of a field.

    Raises:
        UnknownName: there is none; names the nearest.
    """
    if name not in studies.names():
        raise UnknownName.among("study", name, studies.names())
    found: Study = studies.get(name)()
    return found
