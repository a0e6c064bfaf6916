"""Floor 5: what is compared in speech: words never heard in training, of the same language and of another."""

from __future__ import annotations

from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.domains.speech.dtw import TimeWarping
from quickstudy.domains.speech.mfcc import Mfcc
from quickstudy.domains.speech.pictures import spectrograms
from quickstudy.domains.study import Column, Rival, Study
from quickstudy.learners.knn import KNN
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.logistic import Logistic

__all__ = ["speech"]

_RATE = 8000  # of the recipes

_ENGLISH = {"data.name": "spoken-digits"}


def speech() -> Study:
    """Meta-trained on Arabic words; tested on other Arabic words and on English digits, by people never heard."""
    return Study(
        name="speech",
        recipe="arabic-meta-baseline-fast",
        plain="arabic-simpleshot-fast",
        rivals=(
            Rival("MFCC + k-NN", _nearest),
            Rival("MFCC + time warping", _warping),
            Rival("MFCC + logistic regression", _logistic),
        ),
        columns=(
            Column("unseen Arabic words, 5-way 1-shot", {"way": 5, "shot": 1, "query": 6}),
            Column("unseen Arabic words, 5-way 5-shot", {"way": 5, "shot": 5, "query": 6}),
            Column("English digits, 5-way 1-shot", {"way": 5, "shot": 1, "query": 6}, _ENGLISH),
            Column("English digits, 5-way 5-shot", {"way": 5, "shot": 5, "query": 6}, _ENGLISH),
        ),
        episodes=400,
        sections=spectrograms,
        notes=(
            "In every task the speakers of the support are others than those of the query. The speakers and the words "
            "of the test were not heard in training or validation.",
            "Ten test words and twelve test speakers in Arabic, ten digits and six speakers in English: the interval "
            "over episodes says nothing about other words and speakers; the one over classes speaks of the words.",
        ),
    )


def _nearest(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del training
    return KNN(Mfcc(shape.example, rate=_RATE))


def _warping(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del training
    return TimeWarping(shape.example, rate=_RATE)


def _logistic(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del training
    return Logistic(Mfcc(shape.example, rate=_RATE))
