"""Floor 6: the learners that a client may name: those of the package, and those that the operator lists. No paths."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quickstudy.errors import InputError, UnknownName
from quickstudy.estimators.choosing import made
from quickstudy.hub import model_folder
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.registry import learners
from quickstudy.saved import SavedLearner, is_saved
from quickstudy.serve.errors import Refused
from quickstudy.serve.schemas import Kind, LearnerAbout
from quickstudy.shipped import shipped, shipped_names

__all__ = ["Roster"]

_RATE = 8000  # samples a second, of learners that say nothing about it
_OF_TEXTS = {
    "tf-idf": "counted words and logistic regression",
    "minilm-logistic": "a pretrained sentence encoder and logistic regression",
}
_KINDS: dict[str, Kind] = {
    "drawings": "pictures",
    "drawings-maml": "pictures",
    "pictures": "pictures",
    "sounds": "sounds",
    "rows": "rows",
}
_BESIDE: dict[str, tuple[str, ...]] = {
    "pictures": ("drawings", "drawings-maml", "pictures", "knn"),
    "texts": ("minilm-logistic", "tf-idf"),
    "sounds": ("sounds", "knn"),
    "rows": ("rows", "logistic", "knn"),
}
"""What is compared where nobody says it, those of them that there are."""


@dataclass(frozen=True, eq=False)
class _Own:
    saved: SavedLearner
    about: LearnerAbout


class Roster:
    """Learners by name.

    Args:
        own: names -> folders of saved learners or of runs, which the operator lists.

    Raises:
        InputError: a folder holds none, or a name is taken.
    """

    def __init__(self, own: Mapping[str, Path]) -> None:
        self._own = {name: _own(name, folder) for name, folder in own.items()}
        taken = next((name for name in own if name in _plain() or name in _shipped() or name == "auto"), None)
        if taken is not None:
            raise InputError(f"--learner {taken}: there is a learner of this name already. Give yours another one.")

    def about(self) -> list[LearnerAbout]:
        """What there is, ``auto`` first."""
        auto = LearnerAbout(name="auto", kind=None, summary=self.summary("auto"))
        of_package = [LearnerAbout(name=name, kind=_KINDS.get(name), summary=self.summary(name)) for name in _shipped()]
        plain = [
            LearnerAbout(name=name, kind="texts" if name in _OF_TEXTS else None, summary=self.summary(name))
            for name in _plain()
        ]
        return [auto, *of_package, *plain, *(one.about for one in self._own.values())]

    def check(self, name: str) -> str:
        """The name, if there is such a learner.

        Raises:
            Refused: there is none; names the nearest.
        """
        if name not in self._names():
            raise Refused(422, str(UnknownName.among("learner", name[:100], self._names())), "no_such_learner")
        return name

    def _names(self) -> list[str]:
        return ["auto", *_shipped(), *_plain(), *self._own]

    def learner(self, name: str) -> str | SavedLearner:
        """What an estimator is given for it.

        Raises:
            InputError: it is offered no more; for an estimator it might be a path, or a name on the hub.
        """
        if name not in self._names():
            raise InputError(f"This service does not offer the learner {name!r} any more. Choose another one.")
        return self._own[name].saved if name in self._own else name

    def called(self, name: str, chosen: str) -> str:
        """What a learner is called in answers: as it was asked for; what ``auto`` took, by its own name."""
        return chosen if name == "auto" else name

    def summary(self, name: str, learner: AbstractLearner | None = None) -> str:
        """One line about it.

        Args:
            name: of one that can be asked for, or one that ``auto`` took.
            learner: itself, where it is at hand.
        """
        if name == "auto":
            return "whichever suits the examples"
        if name in self._own:
            return self._own[name].about.summary
        if name in _OF_TEXTS:
            return _OF_TEXTS[name]
        if name in _shipped():
            return _summary(shipped(name))
        return _first_line(learners.get(name) if learner is None else type(learner))

    def rate(self, name: str) -> int:
        """Samples a second that it listens to."""
        saved = self._own[name].saved if name in self._own else None
        if saved is None:
            saved = shipped(name) if name in _shipped() else shipped("sounds") if "sounds" in _shipped() else None
        return _RATE if saved is None else int(saved.recipe.data.options.get("rate", _RATE))

    def beside(self, kind: str) -> list[str]:
        """Whom to compare on examples of a kind."""
        there = {*_shipped(), *_plain()}
        own = [one.about.name for one in self._own.values() if one.about.kind == kind]
        return [name for name in _BESIDE[kind] if name in there] + own


@functools.cache
def _shipped() -> tuple[str, ...]:
    return tuple(name for name in shipped_names() if shipped(name).shape.target == "classes")


@functools.cache
def _plain() -> tuple[str, ...]:
    """Learners that nobody has to train."""
    found = []
    for name in sorted(learners.shipped()):
        try:
            traits = made(name, "classes", "").learner.traits
        except InputError:  # it must be trained
            continue
        if "classes" in traits.targets and not traits.transductive:
            found.append(name)
    return (*found, *(name for name in _OF_TEXTS if name != "minilm-logistic" or _minilm()))


def _minilm() -> bool:
    """Whether MiniLM can be loaded, without doing so."""
    try:
        model_folder("minilm")
    except InputError:
        return False
    return importlib.util.find_spec("transformers") is not None


def _own(name: str, folder: Path) -> _Own:
    folder = folder.expanduser()
    saved = SavedLearner.load(folder) if is_saved(folder) else SavedLearner.of_run(folder)
    if saved.shape.target != "classes" or saved.learner.traits.transductive:
        why = "it says numbers" if saved.shape.target != "classes" else "it is transductive"
        raise InputError(f"--learner {name}: {why}, and the service wants an inductive learner of classes.")
    example = saved.shape.example
    kind = "texts" if isinstance(example, dict) else "pictures" if len(example) == 3 else None
    if kind is None:
        kind = "sounds" if "rate" in saved.recipe.data.options else "rows"
    return _Own(saved, LearnerAbout(name=name, kind=kind, summary=_summary(saved)))  # type: ignore[arg-type]


def _summary(saved: SavedLearner) -> str:
    return f"{_first_line(type(saved.learner))} Trained on {saved.recipe.data.name}."


def _first_line(cls: type) -> str:
    return (cls.__doc__ or cls.__name__).strip().splitlines()[0].replace("``", "")
