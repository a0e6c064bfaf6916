"""Floor 5: the spectrograms of a task, for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.soundtasks import SoundTasks
from quickstudy.domains.study import Found
from quickstudy.episode import Episode, first_leaf
from quickstudy.evaluate import Section
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.nets.logmel import LogMel

__all__ = ["spectrograms"]

_QUERIES = 3  # of each word that are shown
_TIMES = 2  # a frame and a band are so many pixels


def spectrograms(found: Found) -> Sequence[Section]:
    """One task of each column: what was heard, and what the learner said."""
    return [
        _section(name, source, found)
        for name, source in found.sources.items()
        if isinstance(source, SoundTasks) and name.endswith("1-shot")
    ]


def _section(column: str, source: SoundTasks, found: Found) -> Section:
    episode = source.episodes(range(1))
    with evaluating(found.learner), torch.no_grad():
        said = answer(found.learner, episode)[0].argmax(-1).tolist()
    mel = LogMel(source.samples, source.rate, normalise=False)
    support, query = (mel(first_leaf(part.x)[0]).numpy() for part in (episode.support, episode.query))
    truth = _labels(episode)
    names = source.words_of(episode)
    pictures = []
    for label, name in enumerate(names):
        asked = [row for row, y in enumerate(truth) if y == label][:_QUERIES]
        answers = ", ".join(repr(names[said[row]]) for row in asked)
        shown = [support[label], *(query[row] for row in asked)]
        pictures.append((_png(shown), f"{name}: one recording to learn from, then {len(asked)} asked for: {answers}"))
    text = (
        f"The first task of {column}: for each word the recording that was learned from (left), then recordings of "
        "other speakers. Time runs to the right, low bands lie below; the words below each picture are what the "
        "learner said of those asked for.",
    )
    rows = [(name, caption.split(": ", 2)[2]) for name, (_, caption) in zip(names, pictures, strict=True)]
    return Section(f"Spectrograms: {column}", text, pictures=pictures, head=("word", "answers"), rows=rows)


def _labels(episode: Episode) -> list[int]:
    assert episode.query.y is not None
    labels: list[int] = episode.query.y[0].tolist()
    return labels


def _png(logs: Sequence[NDArray[np.float32]]) -> bytes:
    """Spectrograms side by side, dark where there is energy, the loudest point of each alike."""
    from PIL import Image

    gap = np.full((logs[0].shape[0], 2), 255, dtype=np.uint8)
    parts: list[NDArray[np.uint8]] = []
    for log in logs:
        grey = (log - log.min()) / max(float(log.max() - log.min()), 1e-6)
        parts += [(255 * (1 - grey[::-1])).round().astype(np.uint8), gap]
    picture = np.concatenate(parts[:-1], axis=1).repeat(_TIMES, 0).repeat(_TIMES, 1)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()
