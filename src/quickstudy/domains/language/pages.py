"""Floor 5: the texts of a task, and the words that tell its classes apart, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from quickstudy.data.texttasks import TextTasks, texts_of
from quickstudy.domains.language.tfidf import Weighted
from quickstudy.domains.study import Found
from quickstudy.evaluate import Section
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.learners.learner import AbstractLearner

__all__ = ["first_task", "texts_and_words"]

_EACH = 2  # texts of each class that are shown
_LONG = 400  # letters of one that are shown
_WORDS = 6  # of each class
_TASKS = 20  # whose texts the words are taken from


def texts_and_words(found: Found) -> Sequence[Section]:
    """Of each column with one text a class: what was learned from and asked for, and the classes' words."""
    return list(_sections(found))


def _sections(found: Found) -> Iterator[Section]:
    for column, source in found.sources.items():
        if isinstance(source, TextTasks) and column.endswith("1-shot"):
            yield first_task(column, source, found.learner)
            yield _words(column, source)


def first_task(column: str, source: TextTasks, learner: AbstractLearner) -> Section:
    """Of the first task for each class some texts that were learned from, and some that were asked for.

    Args:
        column: how these tasks are called.
        source: the tasks.
        learner: as it was tested.
    """
    episode = source.episodes(range(1))
    with evaluating(learner), torch.no_grad():
        said = answer(learner, episode)[0].argmax(-1).tolist()
    names, learned, truth = source.names_of(episode), _labels(episode.support.y), _labels(episode.query.y)
    known, asked = texts_of(episode.support)[0], texts_of(episode.query)[0]
    rows = []
    for label, name in enumerate(names):
        of_class = [place for place, y in enumerate(learned) if y == label][:_EACH]
        mine = [("learned", _short(known[place]), "") for place in of_class]
        places = [place for place, y in enumerate(truth) if y == label][:_EACH]
        mine += [("asked", _short(asked[place]), _verdict(names[said[place]], name)) for place in places]
        rows += [("" if place else name, *row) for place, row in enumerate(mine)]
    right = sum(one == other for one, other in zip(said, truth, strict=True))
    text = (
        f"The first task of {column}, of which {right} of {len(truth)} queries were answered right: for each class up "
        f"to {_EACH} texts that were learned from, and what was said of as many others.",
    )
    return Section(f"Texts: {column}", text, head=("class", "", "text", "answer"), rows=rows)


def _words(column: str, source: TextTasks) -> Section:
    """The words whose mean TF-IDF in the texts of a class is most above that of all classes, over some tasks."""
    of_class: dict[str, list[str]] = {}
    for number in range(_TASKS):
        episode = source.episodes(range(number, number + 1))
        names = source.names_of(episode)
        for part in (episode.support, episode.query):
            for text, label in zip(texts_of(part)[0], _labels(part.y), strict=True):
                of_class.setdefault(names[label], []).append(text)
    weighted = Weighted([text for texts in of_class.values() for text in texts])
    names = sorted(of_class)
    means = np.array([np.asarray(weighted.rows(of_class[name]).mean(0)).reshape(-1) for name in names])
    means -= means.mean(0)
    means[:, [not all(part.isalnum() for part in word.split()) for word in weighted.words]] = -1  # marks say little
    most = np.argsort(-means, axis=1, kind="stable")[:, :_WORDS]
    rows = [(name, ", ".join(weighted.words[n] for n in mine)) for name, mine in zip(names, most, strict=True)]
    about = (
        "Words, and pairs of words, that weigh more in the texts of a class than in those of others (TF-IDF), in "
        f"{_TASKS} tasks.",
    )
    return Section(f"Words: {column}", about, head=("class", "words"), rows=rows)


def _labels(y: torch.Tensor | None) -> list[int]:
    assert y is not None
    labels: list[int] = y[0].tolist()
    return labels


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]} ..."


def _verdict(said: str, true: str) -> str:
    return "right" if said == true else f"wrong: {said}"
