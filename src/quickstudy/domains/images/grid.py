"""Floor 5: the pictures of a task, and what was said of them, for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.picturetasks import PictureTasks
from quickstudy.domains.study import Found
from quickstudy.episode import Episode, Examples, first_leaf
from quickstudy.evaluate import Section
from quickstudy.evaluate.metatest import answer, evaluating

__all__ = ["LEARNED", "RIGHT", "WRONG", "framed_png", "grids"]

_QUERIES = 8  # of each class that are shown
_SIDE = 84  # pixels that a small picture is enlarged to, about
_FRAME = 4
RIGHT, WRONG, LEARNED = (44, 140, 80), (200, 60, 40), (150, 150, 150)


def grids(found: Found) -> Sequence[Section]:
    """One task of each column with a single shot: what was learned from, what was asked, right and wrong."""
    return [
        _section(name, source, found)
        for name, source in found.sources.items()
        if isinstance(source, PictureTasks) and name.endswith("1-shot")
    ]


def _section(column: str, source: PictureTasks, found: Found) -> Section:
    episode = source.episodes(range(1))
    with evaluating(found.learner), torch.no_grad():
        said = answer(found.learner, episode)[0].argmax(-1).tolist()
    names = source.names_of(episode)
    support, query = _pictures(episode.support), _pictures(episode.query)
    truth = _labels(episode)
    pictures, rows = [], []
    for label, name in enumerate(names):
        asked = [row for row, y in enumerate(truth) if y == label]
        right = sum(said[row] == label for row in asked)
        wrong = sorted({names[said[row]] for row in asked if said[row] != label})
        shown = [(support[label], LEARNED)]
        shown += [(query[row], RIGHT if said[row] == label else WRONG) for row in asked[:_QUERIES]]
        words = f"{right} of {len(asked)} right" + (f", else {', '.join(wrong)}" if wrong else "")
        pictures.append((framed_png(shown), f"{name}: a picture to learn from, then pictures asked for; {words}"))
        rows.append((name, f"{right} of {len(asked)}", ", ".join(wrong)))
    text = (
        f"The first task of {column}. Each line begins with the picture that was learned from (grey frame); a green "
        "frame stands around what was then named rightly, a red one around what was not.",
    )
    return Section(
        f"Pictures: {column}", text, pictures=pictures, head=("class", "named rightly", "else named"), rows=rows
    )


def _pictures(examples: Examples) -> NDArray[np.uint8]:
    """``[N, H, W, 3]`` of the first task."""
    x = first_leaf(examples.x)[0].numpy()
    x = x[:, None] if x.ndim == 3 else x
    return np.ascontiguousarray(np.moveaxis(np.broadcast_to(x, (len(x), 3, *x.shape[2:])), 1, 3))


def _labels(episode: Episode) -> list[int]:
    assert episode.query.y is not None
    labels: list[int] = episode.query.y[0].tolist()
    return labels


def framed_png(framed: Sequence[tuple[NDArray[np.uint8], tuple[int, int, int]]]) -> bytes:
    """Pictures ``[H, W, 3]`` side by side, each in a frame of its colour, as PNG bytes."""
    from PIL import Image

    times = max(1, round(_SIDE / len(framed[0][0])))
    parts = []
    for picture, colour in framed:
        large = picture.repeat(times, 0).repeat(times, 1)
        around = np.empty((large.shape[0] + 2 * _FRAME, large.shape[1] + 2 * _FRAME, 3), dtype=np.uint8)
        around[:] = colour
        around[_FRAME:-_FRAME, _FRAME:-_FRAME] = large
        parts.append(np.pad(around, ((0, 0), (0, _FRAME), (0, 0)), constant_values=255))
    file = io.BytesIO()
    Image.fromarray(np.concatenate(parts, axis=1)).save(file, "PNG", optimize=True)
    return file.getvalue()
