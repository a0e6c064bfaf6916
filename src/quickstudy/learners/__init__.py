"""Floor 3: learners, one file an algorithm."""

from quickstudy.learners.acnp import ACNP
from quickstudy.learners.alphatim import AlphaTIM
from quickstudy.learners.anil import ANIL
from quickstudy.learners.baseline import Baseline
from quickstudy.learners.baselinepp import BaselinePlusPlus
from quickstudy.learners.bdcspn import BDCSPN
from quickstudy.learners.boil import BOIL
from quickstudy.learners.boosting import Boosting
from quickstudy.learners.cavia import CAVIA
from quickstudy.learners.cnp import CNP
from quickstudy.learners.dkt import DKT
from quickstudy.learners.feat import FEAT
from quickstudy.learners.finetune import FineTune
from quickstudy.learners.fomaml import FOMAML
from quickstudy.learners.imaml import IMAML
from quickstudy.learners.incontext import InContext
from quickstudy.learners.knn import KNN
from quickstudy.learners.laplacianshot import LaplacianShot
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.logistic import Logistic
from quickstudy.learners.lrd2 import LRD2
from quickstudy.learners.maml import MAML
from quickstudy.learners.mamlpp import MAMLPlusPlus
from quickstudy.learners.mann import MANN
from quickstudy.learners.matching import MatchingNet
from quickstudy.learners.metabaseline import MetaBaseline
from quickstudy.learners.metacurvature import MetaCurvature
from quickstudy.learners.metaoptnet import MetaOptNet
from quickstudy.learners.metasgd import MetaSGD
from quickstudy.learners.protomaml import FOProtoMAML, ProtoMAML
from quickstudy.learners.protonet import ProtoNet
from quickstudy.learners.ptmap import PTMAP
from quickstudy.learners.r2d2 import R2D2
from quickstudy.learners.registry import learners
from quickstudy.learners.relation import RelationNet
from quickstudy.learners.reptile import Reptile
from quickstudy.learners.rfs import RFS
from quickstudy.learners.ridge import Ridge
from quickstudy.learners.scratch import Scratch
from quickstudy.learners.simplecnaps import SimpleCNAPS
from quickstudy.learners.simpleshot import SimpleShot
from quickstudy.learners.snail import SNAIL
from quickstudy.learners.tabular import TabularInContext
from quickstudy.learners.tim import TIM
from quickstudy.learners.transductivefinetune import TransductiveFineTune
from quickstudy.learners.unicornmaml import UnicornMAML

__all__ = [
    "ACNP",
    "ANIL",
    "BDCSPN",
    "BOIL",
    "CAVIA",
    "CNP",
    "DKT",
    "FEAT",
    "FOMAML",
    "IMAML",
    "KNN",
    "LRD2",
    "MAML",
    "MANN",
    "PTMAP",
    "R2D2",
    "RFS",
    "SNAIL",
    "TIM",
    "AbstractLearner",
    "AlphaTIM",
    "Baseline",
    "BaselinePlusPlus",
    "Boosting",
    "FOProtoMAML",
    "FineTune",
    "InContext",
    "LaplacianShot",
    "Logistic",
    "MAMLPlusPlus",
    "MatchingNet",
    "MetaBaseline",
    "MetaCurvature",
    "MetaLoss",
    "MetaOptNet",
    "MetaSGD",
    "ProtoMAML",
    "ProtoNet",
    "RelationNet",
    "Reptile",
    "Ridge",
    "Scratch",
    "SimpleCNAPS",
    "SimpleShot",
    "TabularInContext",
    "Traits",
    "TransductiveFineTune",
    "UnicornMAML",
    "learners",
]
