"""RFS: a good embedding is all you need."""

from __future__ import annotations

import copy
from math import inf
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query
from quickstudy.learners.logistic import LinearClassifier, Logistic
from quickstudy.learners.parts.plain import reinitialised
from quickstudy.learners.parts.pretrained import Pretrained
from quickstudy.learners.parts.solved import refuse_state
from quickstudy.nets.apply import Strategy, apply


class RFS(AbstractLearner):
    """Train a network as a classifier over all training classes; for a new task fit a logistic regression to features.

    Y. Tian, Y. Wang, D. Krishnan, J. B. Tenenbaum, P. Isola, "Rethinking few-shot image classification: a good
    embedding is all you need?", ECCV 2020.

    batch-loss: cross-entropy of A f(x) + a over all training classes; A and a are then thrown away
    distil:     (1 - ``share``) cross-entropy + ``share`` T^2 KL(teacher / T || student / T), the teacher being the
                network of the first phase, frozen, and the student a new network of the same form ("born again")
    adapt:      W, b = logistic regression (L2 penalty 1/C) on f(x) / |f(x)| of the support, by scikit-learn
    predict:    logits = W f(x) / |f(x)| + b

    Unlike Baseline the last layer is fitted to convergence, on features of unit length. LR-D2 fits the same kind of
    layer within each training task and learns the features through it.

    When to choose it: with a large network and enough labels to train it, and a few shots or more; SimpleShot fits
    nothing to a new task and costs less.

    Deviations: one generation of distillation (the authors tried several). The authors' code fits the regression to
    five augmented copies of each support example; augmentation is the data's to make here.

    Inductive: a prediction depends on the support and that query alone.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        classes: how many training classes there are; needed to train.
        c: the inverse of the penalty's strength, as in ``logistic``.
        max_iter: iterations of the solver.
        distil: train twice, in the phases [pretrain] and [train], the second time with the first as the teacher.
        share: of the teacher in the loss, 0 .. 1.
        temperature: T.
        out_features: D, where the network does not say.
        strategy: how the network is run; see ``nets.apply``.
        seed: of the student's initial weights.

    Raises:
        InputError: numbers out of range, the network's norms look at other rows, its feature size is not known.

    >>> from quickstudy.nets import MLP
    >>> RFS(MLP(4), classes=64, distil=True).traits.phases
    ('batches', 'batches')
    """

    generation: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        c: float = 1.0,
        max_iter: int = 1000,
        distil: bool = False,
        share: float = 0.5,
        temperature: float = 4.0,
        out_features: int | None = None,
        strategy: Strategy = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (0 <= share <= 1 and 0 < temperature < inf):
            raise InputError(
                f"Distillation needs a share from 0 to 1 and a temperature above 0, received share={share} and "
                f"temperature={temperature}."
            )
        self.base = Pretrained(net, classes, transform="l2", out_features=out_features, strategy=strategy)
        self.solver = Logistic(c=c, max_iter=max_iter)
        self.share, self.temperature, self.seed = share, temperature, seed
        self.teacher = copy.deepcopy(self.base).requires_grad_(False).eval() if distil else None
        self.register_buffer("generation", torch.zeros((), dtype=torch.int64))

    @property
    @override
    def traits(self) -> Traits:
        phases = ("batches",) if self.teacher is None else ("batches", "batches")
        return Traits(exact_meta_gradient=False, phases=phases)

    @override
    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> LinearClassifier:
        del key
        known = self.base.known(support, None)
        refuse_state(state, "RFS")
        return self.solver.adapt(known)

    @override
    def predict(self, state: LinearClassifier, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.weight.shape[1])
        features = self.base.transformed(self.base.embed.query({}, query), query)
        return self.solver.predict(state, Examples(features, None, query.target, query.mask))

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        """Cross-entropy; in the second phase mixed with the teacher's opinion."""
        del key
        if self.teacher is None or not int(self.generation):
            return self.base.batch_loss(batch)
        applied = apply(self.base.embed.net, batch.x, mask=batch.mask, strategy=self.base.embed.strategy)
        out = self.base.classifier.batch_loss(applied, batch)
        student = self.base.classifier(applied.out.flatten(2)) / self.temperature
        with torch.no_grad():
            known = self.teacher.embed.support(batch).out.flatten(2)
            teacher = self.teacher.classifier(known) / self.temperature
        rows = F.kl_div(student.log_softmax(2), teacher.log_softmax(2), reduction="none", log_target=True).sum(2)
        apart = torch.where(batch.labelled, rows, 0.0).sum(1) / batch.labelled.sum(1).clamp(min=1)
        loss = (1 - self.share) * out.loss + self.share * self.temperature**2 * apart
        return MetaLoss(loss, out.logs | {"distillation": apart.detach()}, out.carried)

    @override
    def begin_phase(self, number: int) -> None:
        """In the second phase what was learned becomes the teacher, and a new student begins."""
        if number != 1 or self.teacher is None:
            with torch.no_grad():
                self.generation.fill_(0)  # also where it is trained a second time: the first phase has no teacher
            return
        self.teacher.load_state_dict(self.base.state_dict())
        fresh = reinitialised(self.base, Key.of(self.seed, "born again").value >> 1)
        self.base.load_state_dict(fresh.state_dict())  # running statistics, too, begin anew
        with torch.no_grad():
            self.generation.fill_(1)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.base.absorb(carried)
