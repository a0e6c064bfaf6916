"""Floor 3: learners, one file an algorithm."""

from quickstudy.learners.finetune import FineTune
from quickstudy.learners.knn import KNN
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.logistic import Logistic
from quickstudy.learners.maml import MAML
from quickstudy.learners.protonet import ProtoNet
from quickstudy.learners.registry import learners
from quickstudy.learners.reptile import Reptile
from quickstudy.learners.scratch import Scratch

__all__ = [
    "KNN",
    "MAML",
    "AbstractLearner",
    "FineTune",
    "Logistic",
    "MetaLoss",
    "ProtoNet",
    "Reptile",
    "Scratch",
    "Traits",
    "learners",
]
