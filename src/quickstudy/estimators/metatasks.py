"""Floor 6: tasks in memory, divided into those that train and those set aside, as a network reads them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.arrays import Arrays, ArrayTask, too_small, usable_classes
from quickstudy.data.counts import Bounds, bounds
from quickstudy.errors import DataError, InputError, QuickstudyError
from quickstudy.estimators.arrayreader import ArrayReader, arrays_reader
from quickstudy.estimators.gathering import Given, Meaning, codes_of
from quickstudy.estimators.inputs import AbstractReader, PictureReader, white_of
from quickstudy.keys import Key, shuffle

if TYPE_CHECKING:
    from quickstudy.estimators.meta import MetaLearner

__all__ = ["MetaTasks", "prepare"]

_SIDES = (28, 84)  # pixels along a side, within which pictures keep their own size
_RATE = 8000  # samples a second that are kept of sounds
_SECONDS = 2.0  # likewise
_MOST_SHOT = {"classes": 5, "real": 20}

_Labelled: TypeAlias = tuple[Given, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class MetaTasks:
    """What a meta-training needs of its tasks.

    Args:
        about: the tasks of both roles, and how examples are read.
        meaning: of the labels.
        way: classes an episode; None: all that a task has, or there are no classes.
        shot: support examples.
        fewest_classes: that a task of either role has; 0 of numbers.
        left_out: name -> why it is too small.
    """

    about: Arrays
    meaning: Meaning
    way: Bounds | None
    shot: Bounds
    fewest_classes: int
    left_out: dict[str, str]


def prepare(options: MetaLearner, given: list[Given], kind: str, meaning: Meaning) -> MetaTasks:
    """Divide the tasks, and measure on those that train how all are to be read.

    Args:
        options: the estimator's.
        given: all tasks.
        kind: of their examples.
        meaning: of their labels.

    Raises:
        DataError: examples or labels that cannot be read (naming the task), or no task is large enough.
        InputError: an option makes no sense.
    """
    labels = [codes_of(one) if meaning == "classes" else _numbers(one) for one in given]
    shot = _usual_shot(labels, meaning) if options.shot is None else bounds("shot", options.shot)
    way = None if options.way is None or meaning == "real" else bounds("way", options.way, 2)
    least = 2 if way is None else way[0]
    left_out = {one.name: why for one, y in zip(given, labels, strict=True) if (why := too_small(y, shot[0], least))}
    usable = [(one, y) for one, y in zip(given, labels, strict=True) if one.name not in left_out]
    if not usable:
        some = "; ".join(f"task {name}: {why}" for name, why in list(left_out.items())[:3])
        raise DataError(f"None of the {len(given)} tasks can be learned from ({some}). Give larger tasks.")
    train, aside = _divided(usable, options.validation, int(options.seed))
    about = _measured(kind, train, meaning, options)
    reader = arrays_reader(about, _example(kind, train, about, options), options.rate)
    about.held = {
        role: [ArrayTask(one.name, _read(reader, one), _scaled(y, about)) for one, y in some]
        for role, some in (("train", train), ("validation", aside))
    }
    about.digest = hashlib.sha256(json.dumps([task.digest for task in about.held["train"]]).encode()).hexdigest()
    fewest = min(len(usable_classes(y, shot[0])) for _, y in usable)
    return MetaTasks(about, meaning, way, shot, fewest, left_out)


def _numbers(one: Given) -> NDArray[np.float64]:
    """``[n, D]``."""
    y = np.asarray(one.y, dtype=np.float64)
    if not np.isfinite(y).all():
        raise DataError(f"Task {one.name} has labels that are NaN or infinite. Leave those examples out.")
    return y[:, None] if y.ndim == 1 else y.reshape(len(y), -1)


def _usual_shot(labels: list[NDArray[Any]], meaning: Meaning) -> Bounds:
    """From 1 to half of what a usual task, or a usual class, has."""
    sizes = [len(y) for y in labels] if meaning == "real" else [int(n) for y in labels for n in np.bincount(y)]
    return 1, int(np.clip(np.median(sizes) // 2, 1, _MOST_SHOT[meaning]))


def _divided(usable: list[_Labelled], share: float, seed: int) -> tuple[list[_Labelled], list[_Labelled]]:
    """Those that train and those that are set aside; a task that is given twice is on one side."""
    of_content: dict[str, list[int]] = {}
    for place, (one, y) in enumerate(usable):
        of_content.setdefault(_digest(one, y), []).append(place)
    groups = list(of_content.values())
    n = len(groups)
    aside = min(max(round(share * n), 1), n - 1) if share > 0 else 0
    order = shuffle(Key.of(seed, "tasks set aside").bits(np.zeros(1, dtype=np.int64), n), np.array([n]))[0]
    chosen = {place for number in order[:aside] for place in groups[number]}
    return (
        [one for place, one in enumerate(usable) if place not in chosen],
        [one for place, one in enumerate(usable) if place in chosen],
    )


def _digest(one: Given, y: NDArray[Any]) -> str:
    x = one.X.detach().cpu().numpy() if isinstance(one.X, Tensor) else one.X
    parts = [x] if isinstance(x, np.ndarray) else list(x)
    digest = hashlib.sha256(np.ascontiguousarray(y).tobytes())
    for part in parts:  # of a list, pictures in files count by their names
        array = np.asarray(part) if not hasattr(part, "is_absolute") else None
        digest.update(
            str(part).encode() if array is None else f"{array.dtype} {array.shape}".encode() + array.tobytes()
        )
    return digest.hexdigest()


def _measured(kind: str, train: list[_Labelled], meaning: Meaning, options: MetaLearner) -> Arrays:
    """How examples are read, by the training tasks alone."""
    about = Arrays(kind=kind)  # type: ignore[arg-type]  # `kind_in` gave it
    if kind in ("rows", "arrays"):
        plain = ArrayReader(_shape_of(train[0][0]))
        x = np.concatenate([_read(plain, one) for one, _ in train]).astype(np.float64)
        about.mean, about.deviation = _moments(x, axis=0 if kind == "rows" else None)
    if kind == "pictures":
        about.white = max(white_of(one.X) for one, _ in train)
    if kind == "sounds":
        about.rate = min(int(options.rate or _RATE), _RATE)
    if meaning == "real":
        about.target_mean, about.target_deviation = _moments(np.concatenate([y for _, y in train]), axis=0)
    return about


def _moments(values: NDArray[np.float64], axis: int | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, deviation = np.atleast_1d(values.mean(axis)), np.atleast_1d(values.std(axis))
    told = deviation > 1e-12 * np.abs(values).max(initial=0.0)  # a column of one number stays as far as it is
    return tuple(mean.tolist()), tuple(np.where(told, deviation, 1.0).tolist())


def _shape_of(one: Given) -> tuple[int, ...]:
    shape = np.shape(one.X)
    if len(shape) < 2:
        raise DataError(
            f"Task {one.name} has examples of shape {list(shape[1:])}: expected an array [n, columns], or [n, ...]. "
            "Give single numbers as a column, X[:, None]."
        )
    return tuple(map(int, shape[1:]))


def _example(kind: str, train: list[_Labelled], about: Arrays, options: MetaLearner) -> tuple[int, ...]:
    """Shape of one example as the network is given it."""
    first = train[0][0]
    if kind in ("rows", "arrays"):
        return _shape_of(first)
    if kind == "sounds":
        return (_samples(train, about, options.rate),)
    size = options.size
    some = [picture for one, _ in train for picture in PictureReader(1, 3, about.white).pictures(one.X[:4])][:200]
    if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1):
        raise InputError(f"size must be a whole number of pixels, such as 42, received {size!r}.")
    side = int(np.clip(max(max(picture.size) for picture in some), *_SIDES)) if size is None else int(size)
    grey = all(len(picture.getbands()) == 1 for picture in some)
    return (1, side, side) if grey else (3, side, side)


def _samples(train: list[_Labelled], about: Arrays, given: int | None) -> int:
    """As many as a usual recording has, at most two seconds; of files a second."""
    seconds = [len(wave) / (given or about.rate) for one, _ in train for wave in one.X if not isinstance(wave, Path)]
    return round((min(float(np.median(seconds)), _SECONDS) if seconds else 1.0) * about.rate)


def _read(reader: AbstractReader, one: Given) -> NDArray[Any]:
    try:
        found = reader.read(one.X)
    except QuickstudyError as error:
        raise DataError(f"Task {one.name}: {error}") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"Task {one.name}: its examples are no numbers ({error}).") from error
    assert isinstance(found, Tensor)
    return found.numpy()


def _scaled(y: NDArray[Any], about: Arrays) -> NDArray[Any]:
    if not about.target_mean:
        return y
    scaled = (y - np.asarray(about.target_mean)) / np.asarray(about.target_deviation)
    return np.asarray(scaled, dtype=np.float32)
