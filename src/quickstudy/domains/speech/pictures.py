"""Floor 5: the spectrograms of a task, for the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.soundtasks import SoundTasks
from quickstudy.domains.images.grid import LEARNED, RIGHT, WRONG, framed_png
from quickstudy.domains.study import Found
from quickstudy.episode import Examples, first_leaf
from quickstudy.evaluate import Section
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.learners.learner import AbstractLearner
from quickstudy.nets.logmel import LogMel

__all__ = ["spectrograms", "spectrograms_of"]

_QUERIES = 3  # of each word that are shown


def spectrograms(found: Found) -> Sequence[Section]:
    """One task of each column with a single shot: what was heard, and what the learner said."""
    return [
        spectrograms_of(name, source, found.learner)
        for name, source in found.sources.items()
        if isinstance(source, SoundTasks) and name.endswith("1-shot")
    ]


def spectrograms_of(column: str, source: SoundTasks, learner: AbstractLearner) -> Section:
    """The first task of a source: for each word a recording that was learned from, then some that were asked for.

    Args:
        column: how the tasks are called.
        source: of them.
        learner: is asked; it is in the same mode afterwards.
    """
    episode = source.episodes(range(1))
    with evaluating(learner), torch.no_grad():
        answers = answer(learner, episode).cpu()
    support, query = episode.support.task(0), episode.query.task(0)
    said = answers[0][episode.query.real[0].cpu()].argmax(-1).tolist()
    mel = LogMel(source.samples, source.rate, normalise=False)
    names, pictures = source.names_of(episode), []
    for label, name in enumerate(names):
        learned, asked = _of(support, label)[:1], _of(query, label)[:_QUERIES]
        logs = torch.cat([mel(first_leaf(part.x)[0][at]) for part, at in ((support, learned), (query, asked))])
        frames = [LEARNED, *(RIGHT if said[row] == label else WRONG for row in asked)]
        words = ", ".join(repr(names[said[row]]) for row in asked)
        caption = f"{name}: one recording to learn from, then {len(asked)} asked for: {words}"
        pictures.append((framed_png(list(zip(map(_grey, logs.numpy()), frames, strict=True))), caption))
    others = "recordings of other speakers" if source.speakers is not None else "others"
    text = (
        f"The first task of {column}: for each word a recording that was learned from (grey frame), then {others}, in "
        "a green frame if they were named rightly and in a red one if not. Time runs to the right, low bands lie "
        "below; the words below each picture are what the learner said of those asked for.",
    )
    return Section(f"Spectrograms: {column}", text, pictures=pictures)


def _of(examples: Examples, label: int) -> list[int]:
    """The rows of a class."""
    assert examples.y is not None
    return [row for row, y in enumerate(examples.y[0].tolist()) if y == label]


def _grey(log: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A spectrogram ``[bands, frames]`` as a picture, dark where there is energy, the loudest point of each alike."""
    grey = (log - log.min()) / max(float(log.max() - log.min()), 1e-6)
    return np.repeat((255 * (1 - grey[::-1])).round().astype(np.uint8)[..., None], 3, axis=2)
