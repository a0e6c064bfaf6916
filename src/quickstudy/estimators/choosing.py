"""Floor 6: which learner an estimator takes: the one that was asked for, or the one that suits the examples."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from quickstudy.data.arrays import Arrays
from quickstudy.data.source import TaskShape
from quickstudy.errors import InputError, UnknownName
from quickstudy.estimators.arrayreader import arrays_reader
from quickstudy.estimators.doubt import network_of
from quickstudy.estimators.encoders import VISION, size_of, vision_in_reach
from quickstudy.estimators.inputs import (
    AbstractReader,
    InkReader,
    Kind,
    PictureReader,
    RowReader,
    SoundReader,
    TextReader,
    looks_drawn,
)
from quickstudy.estimators.making import base_of, is_made, made_learner, made_names
from quickstudy.hub import is_hub_id
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.registry import learners
from quickstudy.recipes.building import build_data
from quickstudy.saved import SavedLearner, is_saved
from quickstudy.shipped import shipped, shipped_names

__all__ = ["Chosen", "Task", "choose", "made", "of_saved", "of_shipped", "reader_for"]

_LEAST_ROWS, _MOST_ROWS = 3, 1000  # a class; in all
_SAMPLES = _RATE = 8000  # of recordings, for learners that nobody trained
_SLOWEST, _FASTEST = 1000, 1_000_000  # samples a second: of seismographs and of bat detectors
_INK = ("glyphs", "omniglot", "ink")  # data sets of ink on empty paper: what their learners read is made so, too


@dataclass(frozen=True)
class Task:
    """What is known of a task when its learner is chosen.

    Args:
        kind: of its examples.
        target: ``"classes"`` or ``"real"``.
        outputs: classes, or numbers that are to be said.
        n: labelled examples.
        columns: of rows; 0 of others.
    """

    kind: Kind
    target: str
    outputs: int
    n: int
    columns: int = 0


@dataclass(frozen=True, eq=False)
class Chosen:
    """A learner and how it is to be fed.

    Args:
        learner: in eval mode; the estimator's own.
        name: what it is called.
        why: it was taken.
        saved: what it came from, or on whose features it stands; None for one that nobody trained.
        made: the name by which :func:`made` makes it again; None for others.
        shipped: the name of the shipped learner that it is; None for others.
    """

    learner: AbstractLearner
    name: str
    why: str
    saved: SavedLearner | None = None
    made: str | None = None
    shipped: str | None = None

    @property
    def digest(self) -> str | None:
        """Of weights that do not come with a task that is saved, by which it is told that they are the same."""
        if self.saved is not None:
            return self.saved.digest
        encoder = self.made is not None and self.made.startswith(VISION)
        return hashlib.sha256(save_tensors(_whole(self.learner))).hexdigest() if encoder else None

    @property
    def units(self) -> tuple[Tensor, Tensor] | None:
        """Mean and deviation ``[D]`` of the numbers that it says; None: they are the labels' own."""
        arrays = None if self.saved is None or self.made is not None else arrays_of(self.saved)
        if arrays is None or not arrays.target_mean:
            return None
        return torch.tensor(arrays.target_mean).double(), torch.tensor(arrays.target_deviation).double()

    @property
    def calibration(self) -> Mapping[str, Any] | None:
        """What was measured on validation tasks, if anything was."""
        return None if self.saved is None or self.made is not None else self.saved.calibration


def _whole(learner: AbstractLearner) -> dict[str, Tensor]:
    return {name: leaf.detach().cpu().contiguous().clone() for name, leaf in learner.state_dict().items()}


def choose(asked: Any, task: Task, X: Any) -> Chosen:
    """The learner for a task.

    Args:
        asked: ``"auto"``, the name of a shipped learner or of a plain one that needs no training, the path of a saved
            learner or a run, or a learner.
        task: what is known of it.
        X: its labelled examples.

    Raises:
        InputError: there is no such learner, or it cannot learn this task.
    """
    if isinstance(asked, AbstractLearner):
        found = Chosen(copy.deepcopy(asked).eval(), type(asked).__name__, "as given")
    elif isinstance(asked, SavedLearner):
        found = of_saved(asked, asked.recipe.name, "as given")
    elif hasattr(asked, "meta_fit"):
        asked._check_fitted()
        found = of_saved(asked.saved_, "meta-learner", "as given")
    elif not isinstance(asked, str | Path):
        raise InputError(
            f"learner must be 'auto', a name, the path of a saved learner or a learner, received {asked!r} "
            f"({type(asked).__name__})."
        )
    elif asked == "auto":
        found = _auto(task, X)
    else:
        found = _named(str(asked), task)
    _check(found, task)
    return found


def _auto(task: Task, X: Any) -> Chosen:
    if task.kind == "texts":
        return _of_texts(task.target)
    if task.kind != "rows":
        return _of_signals(task, X)
    name = "rows-real" if task.target == "real" else "rows"
    if name not in shipped_names():
        return _plain(task, f"no learner called {name!r} is shipped")
    saved = shipped(name)
    room = getattr(saved.learner, "max_features", 0), saved.shape.outputs
    if task.target == "classes" and task.n < _LEAST_ROWS * task.outputs:
        return _plain(task, f"fewer than {_LEAST_ROWS} rows a class")
    if task.n > _MOST_ROWS:
        return _plain(task, f"{task.n:,} rows, where the in-context learner was trained on up to {_MOST_ROWS}")
    if task.columns > room[0]:
        return _plain(task, f"{task.columns} columns, where the in-context learner has room for {room[0]}")
    if task.outputs > room[1]:
        what = "classes" if task.target == "classes" else "numbers a row"
        return _plain(task, f"{task.outputs} {what}, where the in-context learner has room for {room[1]}")
    return of_shipped(name, "rows of a small table")


def _of_signals(task: Task, X: Any) -> Chosen:
    """For pictures and recordings."""
    drawn = task.kind == "pictures" and looks_drawn(X)
    encoder = vision_in_reach() if task.kind == "pictures" and not drawn else None
    if encoder is not None:
        return made(encoder, task.target, "pictures of any kind, and this vision encoder is in reach")
    name, why = ("drawings", "grey, on even paper") if drawn else (str(task.kind), f"{task.kind} of any kind")
    if task.target == "real":
        return made(f"{name}-ridge", "real", f"numbers, on the features of the shipped learner of {name}")
    return of_shipped(name, why) if name in shipped_names() else _plain(task, f"no learner called {name!r} is shipped")


def _of_texts(target: str) -> Chosen:
    pretrained, counted = ("minilm-logistic", "tf-idf") if target == "classes" else ("minilm-ridge", "words-ridge")
    try:
        return made(pretrained, target, "texts, and MiniLM is installed")
    except InputError as error:
        return made(counted, target, f"texts, and no sentence encoder is in reach ({error})")


def _plain(task: Task, why: str) -> Chosen:
    return made("logistic" if task.target == "classes" else "ridge", task.target, why)


def _named(name: str, task: Task) -> Chosen:
    if name in shipped_names():
        return of_shipped(name, "as asked for")
    path = Path(name).expanduser()
    if is_saved(path):
        return of_saved(SavedLearner.load(path), name, "as asked for")
    if (path / "recipe.toml").is_file():
        return of_saved(SavedLearner.of_run(path), name, "as asked for")
    if is_made(name):
        return made(name, task.target, "as asked for")
    if is_hub_id(name):
        return of_saved(SavedLearner.from_pretrained(name), name, "as asked for, from the Hugging Face hub")
    known = ["auto", *shipped_names(), *made_names(), *learners.names()]
    raise UnknownName(
        f"{UnknownName.among('learner', name, known)} A saved learner or a run is named by the path of its folder, and "
        "one on the Hugging Face hub as user/name."
    )


def made(name: str, target: str, why: str) -> Chosen:
    """A learner that nobody has to train; see ``making.py``.

    Args:
        name: of the registry, or one of ``making.made_names()``.
        target: ``"classes"`` or ``"real"``.
        why: it is taken.

    Raises:
        InputError: it has to be trained, or a package is missing.
    """
    base = base_of(name)
    return Chosen(made_learner(name, target), name, why, None if base is None else shipped(base), made=name)


def of_shipped(name: str, why: str) -> Chosen:
    """A learner that comes with the package."""
    return replace(of_saved(shipped(name), name, why), shipped=name)


def of_saved(saved: SavedLearner, name: str, why: str) -> Chosen:
    """A learner that somebody trained and saved; a copy, so that it may be moved to a device."""
    return Chosen(copy.deepcopy(saved.learner).eval(), name, why, saved)


def reader_for(chosen: Chosen, task: Task, X: Any, rate: int | None = None) -> AbstractReader:
    """How examples like these are brought to what a learner reads.

    Args:
        chosen: the learner.
        task: that it is to learn.
        X: its labelled examples.
        rate: samples a second, where they are waveforms.

    Raises:
        InputError: it reads examples of another kind.
    """
    saved = chosen.saved
    shape = None if saved is None else saved.shape
    arrays = None if saved is None else arrays_of(saved)
    if arrays is not None and saved is not None and isinstance(saved.shape.example, tuple):
        _check_kind(chosen, arrays, task)
        return arrays_reader(arrays, saved.shape.example, rate)
    drawn = saved is not None and saved.recipe.data.name in _INK
    if task.kind == "pictures":
        size = size_of(network_of(chosen.learner)) or 32
        known = shape or TaskShape((3, size, size), "classes", 2)
        return InkReader.of(X, known) if drawn else PictureReader.of(X, known)
    if task.kind == "texts":
        return TextReader() if saved is None else _reader_of_texts(saved, chosen.name)
    if task.kind == "sounds":
        _check_rate(rate)
        if saved is None:
            return SoundReader(_SAMPLES, _RATE, rate)
        length = _one_axis(saved, chosen.name, "recordings")
        return SoundReader(length, int(saved.recipe.data.options.get("rate", 8000)), rate)
    if saved is not None and not hasattr(chosen.learner, "max_features"):
        length = _one_axis(saved, chosen.name, "rows of numbers")
        if length != task.columns:
            raise InputError(f"{chosen.name} reads rows of {length} columns; these have {task.columns}.")
    return RowReader(task.columns)


def _reader_of_texts(saved: SavedLearner, name: str) -> TextReader:
    example, tokenizer = saved.shape.example, str(saved.recipe.data.options.get("tokenizer", "words"))
    if not isinstance(example, dict) or "input_ids" not in example:
        raise InputError(f"{name} reads examples of shape {example}, and no texts. Take another learner.")
    if tokenizer == "words":
        raise InputError(
            f"{name} numbers words by those of the texts that it was trained on, which are not kept with it. Take a "
            "learner with a pretrained tokenizer (--data.tokenizer minilm), or 'auto'."
        )
    return TextReader(tokenizer, example["input_ids"][0])


def _one_axis(saved: SavedLearner, name: str, what: str) -> int:
    example = saved.shape.example
    if isinstance(example, dict) or len(example) != 1:
        raise InputError(f"{name} reads examples of shape {example}, and no {what}. Take another learner.")
    return example[0]


def arrays_of(saved: SavedLearner) -> Arrays | None:
    """How a learner that was trained on arrays in memory reads examples; None of others."""
    if saved.recipe.data.name != "arrays":
        return None
    found = build_data(saved.recipe)
    assert isinstance(found, Arrays)
    return found


def _check_kind(chosen: Chosen, arrays: Arrays, task: Task) -> None:
    known = {"arrays": ("pictures", "rows")}.get(arrays.kind, (arrays.kind,))  # arrays may look like either
    if task.kind not in known:
        raise InputError(
            f"{chosen.name} was trained on {arrays.kind}, and these are {task.kind}. Give it such examples."
        )


def _check_rate(rate: int | None) -> None:
    if rate is not None and not _SLOWEST <= rate <= _FASTEST:
        raise InputError(
            f"rate must be samples a second of sound, {_SLOWEST:,} to {_FASTEST:,}, received {rate:,}. Say how the "
            "waveforms were recorded, such as 16000."
        )


def _check(found: Chosen, task: Task) -> None:
    traits = found.learner.traits
    if task.target not in traits.targets:
        wanted = "classes" if task.target == "classes" else "real numbers"
        raise InputError(f"{found.name} does not learn {wanted}: it is for {' and '.join(traits.targets)}.")
    if traits.transductive:
        raise InputError(
            f"{found.name} is transductive: what it says of one example depends on those beside it, which an estimator "
            "may not. Take an inductive learner."
        )
    if task.target == "classes" and not traits.any_way and found.saved is not None:
        outputs = found.saved.shape.outputs
        if outputs != task.outputs:
            raise InputError(
                f"{found.name} was trained for {outputs} classes, here are {task.outputs}. Take a learner of any way."
            )
