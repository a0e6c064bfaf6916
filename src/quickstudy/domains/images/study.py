"""Floor 5: what is compared in images: kinds of objects never seen in training, and characters, another domain."""

from __future__ import annotations

from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.domains.images.classical import ColourHistogram, Hog
from quickstudy.domains.images.grid import grids
from quickstudy.domains.study import Column, Rival, Study
from quickstudy.learners.knn import KNN
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.logistic import Logistic
from quickstudy.learners.protonet import ProtoNet

__all__ = ["images"]

# The recipe's pictures have three channels and 42 pixels.
_CHARACTERS = {"data.name": "omniglot", "data.size": 42, "data.channels": 3, "data.rotations": "none"}
_ONE, _FIVE = {"way": 5, "shot": 1, "query": 10}, {"way": 5, "shot": 5, "query": 10}


def images() -> Study:
    """Meta-trained on 64 kinds of Caltech-101; tested on 20 others, and on Omniglot's characters."""
    return Study(
        name="images",
        recipe="caltech-meta-baseline-fast",
        plain="caltech-simpleshot-fast",
        rivals=(
            Rival("pixels + k-NN", lambda shape, training: KNN()),
            Rival("colours + k-NN", _colours),
            Rival("HOG + nearest centroid", _centroid),
            Rival("HOG + logistic regression", _logistic),
        ),
        columns=(
            Column("unseen objects, 5-way 1-shot", _ONE),
            Column("unseen objects, 5-way 5-shot", _FIVE),
            Column("characters, 5-way 1-shot", _ONE, _CHARACTERS),
            Column("characters, 5-way 5-shot", _FIVE, _CHARACTERS),
        ),
        episodes=600,
        sections=grids,
        notes=(
            "Twenty kinds of objects are tested on: the interval over episodes is about these, the one over classes "
            "speaks of kinds in general.",
            "Characters are Omniglot's, of Vinyals' test list, without turned ones. Nothing like them was trained on.",
        ),
    )


def _colours(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del training
    return KNN(ColourHistogram(shape.example))


def _centroid(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del training
    return ProtoNet(Hog(shape.example)).eval()


def _logistic(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del training
    return Logistic(Hog(shape.example))
