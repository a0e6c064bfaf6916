"""Conditional neural processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.classwise import check_every_class, class_sums, mask_absent, ways_of
from quickstudy.learners.parts.embedder import Features
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.rows import RowFeatures, check_fits, known_outputs, label_rows
from quickstudy.learners.parts.setencoder import Activation, Gaussian, checked_std, perceptron
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments


@dataclass(frozen=True, eq=False)
class Representation:
    """Sums and counts of encoded examples; their quotient is the task's representation.

    Args:
        sums: ``[T, C, R]``: one sum a class, or a single one for real targets.
        counts: ``[T, C]``.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    sums: Tensor
    counts: Tensor
    moments: Moments


class CNP(AbstractLearner):
    """Summarise the support as the mean of its encoded examples, and decode a distribution for each query from it.

    M. Garnelo, D. Rosenbaum, C. J. Maddison, T. Ramalho, D. Saxton, M. Shanahan, Y. W. Teh, D. J. Rezende,
    S. M. A. Eslami, "Conditional neural processes", ICML 2018.

    adapt:      r = mean of h(x, y) over the support; for classes r = (r_1, ..., r_W), r_c the mean of h(x) over class c
    predict:    (μ, σ) = g(x, r), a normal distribution for each real value, of which ``predict`` gives μ and
                ``distribution`` both; or logits g(x, r)
    meta-loss:  -log p(y | μ, σ) of the queries; for classes cross-entropy

    Unlike the attentive process ``acnp`` every query reads the same summary, so a task costs O(Ns + Nq), but the
    prediction does not pass through the given points.

    When to choose it: regression from a few points, any number of them, when the answer's uncertainty matters and
    prediction has to be fast: nothing is solved or differentiated on a new task, and more examples join by addition.
    For classes most metric learners are better; the decoder knows label numbers and one way.

    Deviations: the loss is on the query alone, where the paper asks for given points too. For classes the paper has
    pictures and a convolutional h; here h is a perceptron on what ``net`` makes of them.

    Inductive: a prediction depends on the support and that query alone.

    Args:
        net: makes features of examples; None: the examples themselves.
        outputs: the way, or D.
        target: ``"classes"`` or ``"real"``.
        in_features: size of one flattened example, needed without a network.
        width: of the representation and of all hidden layers.
        layers: hidden layers of the encoder h, and of the decoder g.
        min_std: the least σ, in units of y; the paper's code has 0.1.
        activation: ``"relu"`` or ``"tanh"``.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: sizes that are missing or make no sense.

    >>> learner = CNP(outputs=1, target="real", in_features=1)
    >>> learner.traits.incremental
    True
    """

    def __init__(
        self,
        net: nn.Module | None = None,
        outputs: int | None = None,
        target: Literal["classes", "real"] = "classes",
        *,
        in_features: int | None = None,
        width: int = 128,
        layers: int = 2,
        min_std: float = 0.1,
        activation: Activation = "relu",
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("CNP", "target", target, ("classes", "real"))
        self.outputs, self.target = known_outputs(outputs, "CNP"), target
        self.min_std = checked_std(min_std)
        self.rows = RowFeatures(net, in_features, out_features, strategy)
        size, hidden = self.rows.out_features, [width] * layers
        real = target == "real"
        self.encoder = perceptron([size + (self.outputs if real else 0), *hidden, width], activation)
        parts = 1 if real else self.outputs
        self.decoder = perceptron([size + parts * width, *hidden, (2 if real else 1) * self.outputs], activation)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(
            targets=(self.target,),
            any_way=False,
            renames=False,
            transductive=self.rows.transductive,
            incremental=self.rows.singly,
        )

    @override
    def adapt(
        self, support: Examples, *, state: Representation | None = None, key: Keys | None = None
    ) -> Representation:
        check_support(support, state)
        del key
        return self._summarise(self.rows.support(support), support, state)

    @override
    def predict(self, state: Representation, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, ways_of(state.counts))
        raw = self._decode(state, self.rows.query(state.moments, query), query)
        return self._outputs(raw, query)

    def distribution(self, state: Representation, query: Examples) -> Gaussian:
        """Mean and deviation of each real value, both ``[T, Nq, D]``.

        Raises:
            InputError: the learner predicts classes.
        """
        if self.target != "real":
            raise InputError("A CNP of classes predicts no values. Ask predict for its logits.")
        check_query(query, state)
        raw = self._decode(state, self.rows.query(state.moments, query), query)
        return Gaussian.bounded(raw, self.min_std)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The negative log-likelihood of the queries."""
        del key
        features, query = self.rows.episode(episode), episode.query
        state = self._summarise(features.support, episode.support, None)
        raw = self._decode(state, features.query, query)
        outputs = self._outputs(raw, query)
        real = self.target == "real"
        loss = Gaussian.bounded(raw, self.min_std).nll(query) if real else self.loss(outputs, query)
        return MetaLoss(loss, task_logs(outputs, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.rows.absorb(carried)

    def _summarise(self, features: Features, support: Examples, before: Representation | None) -> Representation:
        check_fits(support, self.target, self.outputs)
        if isinstance(support.target, Classes):
            sums, counts = class_sums(self.encoder(features.out), support)
            missing = self.outputs - support.max_way
            sums, counts = nn.functional.pad(sums, (0, 0, 0, missing)), nn.functional.pad(counts, (0, missing))
        else:
            pairs = torch.cat([features.out, label_rows(support, self.outputs, features.out)], 2)
            encoded = torch.where(support.labelled[..., None], self.encoder(pairs), 0.0)
            sums, counts = encoded.sum(1, keepdim=True), support.labelled.sum(1, keepdim=True).to(encoded.dtype)
        if before is not None:
            sums, counts = sums + before.sums, counts + before.counts
        if isinstance(support.target, Classes):
            check_every_class(counts, support)
        return Representation(sums, counts, features.moments)

    def _decode(self, state: Representation, features: Tensor, query: Examples) -> Tensor:
        means = state.sums / state.counts.clamp(min=1)[..., None]
        read = means.flatten(1)[:, None].expand(-1, features.shape[1], -1)
        out: Tensor = self.decoder(torch.cat([features, read], 2))
        return out

    def _outputs(self, raw: Tensor, query: Examples) -> Tensor:
        """What ``predict`` returns: means, or logits of the classes that there are."""
        if isinstance(query.target, Classes):
            return mask_absent(raw[..., : query.max_way], query)
        return raw[..., : self.outputs]
