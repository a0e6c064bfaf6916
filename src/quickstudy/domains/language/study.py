"""Floor 5: what is compared in language: intents of unseen domains, of another corpus, and relations."""

from __future__ import annotations

from typing import TypeAlias

from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.data.texttasks import TextTasks
from quickstudy.domains.language.encoder import reader
from quickstudy.domains.language.pages import texts_and_words
from quickstudy.domains.language.setfit import SetFit
from quickstudy.domains.language.tfidf import TfIdf, training_frequencies
from quickstudy.domains.study import Column, Rival, Study
from quickstudy.errors import InputError
from quickstudy.learners.knn import KNN
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.logistic import Logistic

__all__ = ["language", "language_relations", "language_scratch"]

_SIZES = ({"way": 5, "shot": 1, "query": 5}, {"way": 5, "shot": 5, "query": 5})
_Places: TypeAlias = tuple[tuple[str, dict[str, str]], ...]
_SETFIT = 8  # tasks, each of which is a training of 22 million weights


def language() -> Study:
    """A pretrained encoder: meta-trained on six domains of CLINC150; tested on three others and on BANKING77."""
    return Study(
        name="language",
        recipe="clinc150-minilm-protonet-fast",
        plain="clinc150-minilm-simpleshot-fast",
        rivals=(*_COUNTS, *_FROZEN, Rival("MiniLM, SetFit", _setfit, episodes=_SETFIT, unasked=_HOURS)),
        columns=_intents(),
        episodes=200,
        sections=texts_and_words,
        notes=(*_ABOUT_INTENTS, f"SetFit learned the first {_SETFIT} tasks of each kind."),
    )


def language_scratch() -> Study:
    """The same tasks with a small encoder that nothing was pretrained of."""
    return Study(
        name="language-scratch",
        recipe="clinc150-protonet-fast",
        plain="clinc150-simpleshot-fast",
        rivals=(*_COUNTS, *_FROZEN),
        columns=_intents(),
        episodes=200,
        sections=texts_and_words,
        notes=_ABOUT_INTENTS,
    )


def language_relations() -> Study:
    """Relations: meta-trained on news and SemEval; tested on Wikipedia and PubMed."""
    places: _Places = (("Wikipedia", {}), ("PubMed", {"data.test": "pubmed"}))
    return Study(
        name="language-relations",
        recipe="fewrel-protonet-fast",
        plain="fewrel-simpleshot-fast",
        rivals=(*_COUNTS, *_FROZEN),
        columns=tuple(
            Column(f"{name}, 5-way {size['shot']}-shot", size, data) for name, data in places for size in _SIZES
        ),
        episodes=200,
        sections=texts_and_words,
        notes=(
            "Not comparable with published figures of FewRel: its training file, 64 relations of Wikipedia, is not "
            "used. Trained on 13 relations of NYT, none of which Wikipedia's test has, and 17 of SemEval.",
            "16 test relations of Wikipedia, 10 of PubMed: the interval over classes speaks of other relations.",
        ),
    )


def _intents() -> tuple[Column, ...]:
    places: _Places = (("unseen domains", {}), ("BANKING77", {"data.test": "banking77"}))
    return tuple(Column(f"{name}, 5-way {size['shot']}-shot", size, data) for name, data in places for size in _SIZES)


_ABOUT_INTENTS = (
    "Trained on 90 intents of six domains of CLINC150; banking, credit cards and work (45 intents) test. BANKING77's "
    "77 intents are another corpus, of other authors; five of its texts that CLINC150 has, too, are left out.",
    "MiniLM was pretrained on a thousand million pairs of sentences, in which queries like these may have been.",
)


def _counted(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del shape, training
    return TfIdf()


def _weighted(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del shape
    if not isinstance(training, TextTasks):
        raise InputError("TF-IDF with frequencies of training texts needs tasks of texts.")
    return TfIdf(frequencies=training_frequencies(training))


def _nearest(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del shape, training
    return KNN(reader())


def _logistic(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del shape, training
    return Logistic(reader(), c=10.0)


_HOURS = "It fine-tunes an encoder in each task, on pairs of its examples: of many ways and shots that takes hours."


def _setfit(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del shape, training
    return SetFit(reader())


_COUNTS = (Rival("TF-IDF + logistic", _counted), Rival("TF-IDF of training texts + logistic", _weighted))
_FROZEN = (Rival("MiniLM, frozen + k-NN", _nearest), Rival("MiniLM, frozen + logistic", _logistic))
