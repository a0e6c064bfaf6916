"""Rows of the learners that are trained on plain labelled batches."""

from typing import TypeVar

import torch

from quickstudy.learners.baseline import Baseline
from quickstudy.learners.baselinepp import BaselinePlusPlus
from quickstudy.learners.bdcspn import BDCSPN
from quickstudy.learners.finetune import FineTune
from quickstudy.learners.laplacianshot import LaplacianShot
from quickstudy.learners.metabaseline import MetaBaseline
from quickstudy.learners.rfs import RFS
from quickstudy.learners.simpleshot import SimpleShot
from tests.smalltasks import WAY, Row, mlp

STOPS = "scikit-learn stops at a gradient of 1e-4"
Centred = TypeVar("Centred", SimpleShot, BDCSPN, LaplacianShot)


def centred(learner: Centred) -> Centred:
    """One that takes away a mean feature, told one, as training would have measured it."""
    learner.base.mean.copy_(torch.linspace(-0.4, 0.3, learner.base.mean.numel()))
    learner.base.batches.fill_(1)
    return learner


ROWS = [
    Row("baseline", lambda: Baseline(mlp(), classes=9, steps=6)),
    Row("baseline-whole-support", lambda: Baseline(mlp(), classes=9, steps=6, batch=None)),
    Row("baseline-batchnorm", lambda: Baseline(mlp("batch"), classes=9, steps=6)),
    Row("baseline++", lambda: BaselinePlusPlus(mlp(), classes=9, steps=6)),
    Row("simpleshot", lambda: centred(SimpleShot(mlp(), classes=9))),
    Row("simpleshot-un", lambda: SimpleShot(mlp(), classes=9, transform="un")),
    Row("simpleshot-l2n", lambda: SimpleShot(mlp("batch"), classes=9, transform="l2n")),
    Row("rfs", lambda: RFS(mlp(), classes=9), tolerance=1e-3, reason=STOPS),
    Row("rfs-distil", lambda: RFS(mlp("batch"), classes=9, distil=True), tolerance=1e-3, reason=STOPS),
    Row("meta-baseline", lambda: MetaBaseline(mlp(), classes=9)),
    Row("meta-baseline-batchnorm", lambda: MetaBaseline(mlp("batch"), classes=9)),
    Row("meta-baseline-tasknorm", lambda: MetaBaseline(mlp("task"), classes=9)),
    Row("fine-tune-lora", lambda: FineTune(mlp(), WAY, classes=9, part="lora", rank=2, steps=4), follows_query=False),
    Row("fine-tune-head", lambda: FineTune(mlp("task"), WAY, classes=9, part="head", steps=4), follows_query=False),
    Row("fine-tune-proto", lambda: FineTune(mlp(), classes=9, head="proto", steps=4, batch=4), follows_query=False),
]
