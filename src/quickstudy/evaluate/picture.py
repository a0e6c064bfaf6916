"""Floor 4: one real episode, to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quickstudy.data.source import TaskSource
from quickstudy.episode import Examples, first_leaf
from quickstudy.errors import InputError
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.evaluate.scores import score
from quickstudy.learners.learner import AbstractLearner

__all__ = ["EpisodePicture", "picture_episode", "png"]

Pictures: TypeAlias = NDArray[Any]
Labels: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EpisodePicture:
    """The pictures of one classification task and what a learner said of them.

    Args:
        support: ``[Ns, H, W]`` or ``[Ns, C, H, W]`` with C 1 or 3; uint8 in 0 .. 255 or floats in 0 .. 1.
        support_y: int ``[Ns]``, class numbers.
        query: ``[Nq, ...]``, likewise.
        query_y: int ``[Nq]``, the truth; -1 for unlabelled rows, which are not shown.
        predicted: int ``[Nq]``, what the learner said; -1 for no usable answer.
        caption: a sentence above it, such as the learner's name and the task.
        names: what each class is called; letters A, B, ... by default.
        ink: bright pixels are ink (Omniglot as learners see it): shown dark on light, as on paper.

    Raises:
        InputError: lengths do not fit together, or a class has no name.
    """

    support: Pictures
    support_y: Labels
    query: Pictures
    query_y: Labels
    predicted: Labels
    caption: str = ""
    names: Sequence[str] = field(default=())
    ink: bool = False

    def __post_init__(self) -> None:
        lengths = [
            ("support_y", len(self.support_y), "support", len(self.support)),
            ("query_y", len(self.query_y), "query", len(self.query)),
            ("predicted", len(self.predicted), "query", len(self.query)),
        ]
        for name, found, other, expected in lengths:
            if found != expected:
                raise InputError(f"EpisodePicture.{name}: expected {expected} as in {other}, found {found}.")
        if self.names and len(self.names) < self.way:
            raise InputError(f"EpisodePicture.names: expected {self.way} names, found {len(self.names)}.")

    @property
    def way(self) -> int:
        """How many classes are met with."""
        every = (self.support_y, self.query_y, self.predicted)
        return 1 + max((int(labels.max()) for labels in every if len(labels)), default=-1)

    def name(self, label: int) -> str:
        """What class ``label`` is called."""
        if label < 0:
            return "no answer"
        if self.names:
            return self.names[label]
        return chr(ord("A") + label) if self.way <= 26 else str(label)


def picture_episode(
    learner: AbstractLearner,
    source: TaskSource,
    *,
    index: int = 0,
    seed: int = 0,
    caption: str = "",
    names: Sequence[str] = (),
    ink: bool = False,
) -> EpisodePicture:
    """Take a picture of one task, with the predictions that :func:`meta_test` scores (same learner, source, seed).

    Args:
        learner: see ``meta_test``.
        source: of classification tasks of pictures.
        index: the number of the task.
        seed: see ``meta_test``.
        caption: see :class:`EpisodePicture`.
        names: see :class:`EpisodePicture`.
        ink: see :class:`EpisodePicture`.

    Raises:
        InputError: the source's tasks are not of classes, or its examples are no pictures.
    """
    if source.shape.target != "classes":
        raise InputError(
            f"Cannot draw an episode of these tasks: expected tasks of classes, found target {source.shape.target!r}."
        )
    episode = source.episodes(range(index, index + 1))
    with evaluating(learner):
        outputs = answer(learner, episode, seed=seed)
    predicted = score(outputs, episode).predicted
    if predicted is None:
        raise InputError("Cannot draw an episode without predicted classes.")
    support, support_y = _rows(episode.support)
    query, query_y = _rows(episode.query)
    return EpisodePicture(
        support, support_y, query, query_y, predicted[episode.query.real].numpy(), caption, names, ink
    )


def _rows(examples: Examples) -> tuple[Pictures, Labels]:
    """Pictures and labels of the single task, without padding."""
    one = examples.task(0)
    if one.y is None:
        raise InputError("Cannot draw an episode whose examples carry no labels.")
    return first_leaf(one.x)[0].numpy(), one.y[0].numpy()


def png(picture: Pictures, *, ink: bool = False) -> str:
    """A picture as a ``data:`` address.

    Args:
        picture: ``[H, W]`` or ``[C, H, W]`` with C 1 or 3; uint8, or floats in 0 .. 1.
        ink: show bright as dark.

    Raises:
        InputError: it is no picture.
    """
    if picture.ndim == 2:
        picture = picture[None]
    if picture.ndim != 3 or len(picture) not in (1, 3):
        raise InputError(
            f"Cannot draw an example of shape {list(picture.shape)}: expected [H, W] or [C, H, W] with C 1 or 3."
        )
    if picture.dtype != np.uint8:
        picture = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    shown = np.moveaxis(255 - picture if ink else picture, 0, 2)
    image = Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else np.ascontiguousarray(shown))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return data_address("image/png", file.getvalue())


def data_address(media_type: str, content: bytes) -> str:
    """``content`` as an address that needs no network and no file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
