"""In-context learning: a transformer that reads the support set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.keys import Keys, shuffle
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.classwise import check_every_class, class_sums, mask_absent
from quickstudy.learners.parts.embedder import Features
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.rows import RowFeatures, check_fits, known_outputs, label_rows
from quickstudy.learners.parts.solved import refuse_state
from quickstudy.learners.parts.transformer import Cache, Transformer, simplex
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments


@dataclass(frozen=True, eq=False)
class Context:
    """A support set as a transformer has read it.

    Args:
        cache: its keys and values.
        slots: int64 ``[T, W]``, which of the label embeddings each class was given (empty for real targets).
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    cache: Cache
    slots: Tensor
    moments: Moments


class InContext(AbstractLearner):
    """A transformer reads the labelled support and says the label of each query, in one forward pass.

    C. Fifty, D. Duan, R. G. Junkins, E. Amid, J. Leskovec, C. Ré, S. Thrun, "Context-aware meta-learning" (CAML), ICLR
    2024; L. Kirsch, J. Harrison, J. Sohl-Dickstein, L. Metz, "General-purpose in-context learning by meta-learning
    transformers" (GPICL), 2022.

    adapt:      tokens t_i = A f(x_i) + B e(y_i) of the support attend to each other; keys and values are the state
    predict:    the token A f(x) + u ("label unknown") attends to the support and itself; logits_c = <P t, e_c>
    meta-loss:  cross-entropy of the queries (squared error for real targets, where e(y) = y and the output is P t)

    e_c are the corners of a regular simplex (equal length, equal angles), fixed and as many as ``max_way``, as in CAML.
    In training each task gives its classes corners at random, so that no corner means anything; outside training class
    c has corner c, and the same task always the same answer. Unlike ``snail`` it knows no order of the support, and
    unlike metric learners nothing says how labels are to be used: that is learned, which takes many tasks.

    When to choose it: a great many training tasks, or features of a strong pretrained network; when adaptation has
    to be one forward pass, or tasks are not all of the kind "the nearest class wins". With few training tasks a metric
    learner is better.

    Deviations: support tokens do not attend to the query (in CAML all tokens attend to all), so that the support is
    read once for any number of queries; logits are read off at the corners, where CAML has a linear layer that knows
    label numbers; the network is trained along, where CAML freezes a large pretrained one; sizes and rates are our own.
    Against GPICL: no order, and a label stands beside its own example.

    Inductive: a prediction depends on the support and that query alone. The answer to renamed classes is only about
    the renamed answer, as corners are learned from, not built in.

    Args:
        net: makes features of examples; None: the examples themselves.
        outputs: the way, or D.
        target: ``"classes"`` or ``"real"``.
        in_features: size of one flattened example, needed without a network.
        max_way: the largest way that can be learned; ``outputs`` by default.
        width: of a token.
        layers: of the transformer.
        heads: of attention; divides ``width``.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: sizes that are missing or do not fit.

    >>> from quickstudy.nets import MLP
    >>> InContext(MLP(4), outputs=5).traits.order_invariant
    True
    """

    corners: Tensor

    def __init__(
        self,
        net: nn.Module | None = None,
        outputs: int | None = None,
        target: Literal["classes", "real"] = "classes",
        *,
        in_features: int | None = None,
        max_way: int | None = None,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("InContext", "target", target, ("classes", "real"))
        self.target = target
        self.outputs = known_outputs(outputs if max_way is None or target == "real" else max_way, "InContext")
        self.rows = RowFeatures(net, in_features, out_features, strategy)
        self.of_features = nn.Linear(self.rows.out_features, width)
        self.of_label = nn.Linear(self.outputs, width, bias=False)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.transformer = Transformer(width, layers, heads)
        self.to_label = nn.Linear(width, self.outputs, bias=target == "real")
        self.register_buffer("corners", simplex(self.outputs), persistent=False)

    @property
    @override
    def traits(self) -> Traits:
        classes = self.target == "classes"
        return Traits(targets=(self.target,), any_way=classes, renames=False, transductive=self.rows.transductive)

    @override
    def adapt(self, support: Examples, *, state: Context | None = None, key: Keys | None = None) -> Context:
        """Read the support.

        Raises:
            InputError: a state is given: rows attend to each other, so the whole support must be read at once.
        """
        check_support(support, state)
        refuse_state(state, "InContext")
        del key
        return self._read(self.rows.support(support), support, self._plain_slots(support))

    @override
    def predict(self, state: Context, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.slots.shape[1])
        return self._answer(state, self.rows.query(state.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss, each task's classes at corners of their own."""
        features, query = self.rows.episode(episode), episode.query
        slots = self._random_slots(episode.support, Keys.default(episode.n_task) if key is None else key)
        outputs = self._answer(self._read(features.support, episode.support, slots), features.query, query)
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.rows.absorb(carried)

    def _plain_slots(self, support: Examples) -> Tensor:
        """Class c at corner c."""
        way = support.max_way if isinstance(support.target, Classes) else 0
        return torch.arange(way, device=support.device).expand(support.n_task, way)

    def _random_slots(self, support: Examples, key: Keys) -> Tensor:
        if not isinstance(support.target, Classes):
            return self._plain_slots(support)
        words = key.fold("label slots").bits(self.outputs)
        slots = shuffle(words, np.full(len(words), self.outputs))[:, : support.max_way]
        return torch.from_numpy(slots).to(support.device)

    def _read(self, features: Features, support: Examples, slots: Tensor) -> Context:
        check_fits(support, self.target, self.outputs)
        labels = label_rows(support, slots.shape[1] or self.outputs, features.out)
        if isinstance(support.target, Classes):
            check_every_class(class_sums(features.out[..., :1], support)[1], support)
            labels = labels @ self.corners[slots]
        tokens = self.of_features(features.out) + self.of_label(labels)
        return Context(self.transformer.support(tokens, support.labelled), slots, features.moments)

    def _answer(self, state: Context, features: Tensor, query: Examples) -> Tensor:
        last = self.transformer.query(self.of_features(features) + self.unknown, state.cache)
        said: Tensor = self.to_label(last)
        if not isinstance(query.target, Classes):
            return said
        return mask_absent(said @ self.corners[state.slots].transpose(1, 2), query)
