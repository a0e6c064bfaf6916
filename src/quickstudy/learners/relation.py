"""Relation networks."""

from __future__ import annotations

from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import (
    AbstractLearner,
    MetaLoss,
    Traits,
    check_query,
    check_support,
    task_logs,
    task_loss,
)
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.comparison import CompareMaps, CompareVectors
from quickstudy.learners.parts.embedder import Embedder
from quickstudy.learners.parts.features import known_size
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.prototypes import Prototypes, prototypes
from quickstudy.nets.apply import Applied, Strategy, apply
from quickstudy.nets.norms import absorb_statistics, uses_current_rows


class RelationNet(AbstractLearner):
    """Learn not only features but also the comparison of a query with a class.

    F. Sung, Y. Yang, L. Zhang, T. Xiang, P. Torr, T. Hospedales, "Learning to compare: relation network for few-shot
    learning", CVPR 2018.

    adapt:      c_k = sum of f(x) over class k's support, as feature maps
    predict:    logits_k = g([c_k, f(x)]), a small network over both maps; the paper's relation score is
                r_k = sigmoid(logits_k)
    meta-loss:  mean over queries and classes of (r_k - [k is the query's class])^2, or cross-entropy of the logits

    A prototypical network compares by a fixed distance, this one by a network of its own, and at every query it runs
    that network once for each class.

    When to choose it: where no fixed distance fits, as with fine spatial detail, since it compares maps before they are
    pooled. Else a prototypical network is cheaper.

    Deviations: torch's initial weights in place of the authors' (normal, with linear biases of 1); pooling stops where
    a map has a single row. In the released code batch norm uses the current rows at test too, those of the support and
    those of the query apart (``transductive=True`` here, for network and comparison alike). By default it keeps running
    statistics, so that no query sees another, and in training support and query are one batch.

    Inductive by default.

    Args:
        net: maps ``[N, ...]`` to feature maps, laid flat or not, or to vectors ``[N, D]``.
        loss: ``"mse"`` (the paper) or ``"cross-entropy"``.
        pooling: examples of a class are added (``"sum"``, the paper) or averaged (``"mean"``).
        hidden: units of the comparison's hidden linear layer.
        activation: of a comparison of vectors; ``"tanh"`` is smooth, for derivative checks.
        norm: of the comparison, one of ``nets.norms.NORMS`` but ``"task"``; by default ``"batch"``, and
            ``"transductive"`` with ``transductive=True``.
        transductive: batch statistics at test, as in the released code; needs a network with norm="transductive".
        map_shape: C, H, W of a feature map, where the network has no attribute of that name.
        out_features: D of vectors, where the network has no attribute of that name and makes no maps.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: the size of the features is not known, no such option, or options that do not fit together.

    >>> from quickstudy.nets import Conv4
    >>> RelationNet(Conv4(halvings=2, padded=False)).compare.map_shape
    (64, 5, 5)
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        loss: Literal["mse", "cross-entropy"] = "mse",
        pooling: Literal["sum", "mean"] = "sum",
        hidden: int = 8,
        activation: Literal["relu", "tanh"] = "relu",
        norm: Literal["batch", "transductive", "group", "layer", "instance", "none"] | None = None,
        transductive: bool = False,
        map_shape: tuple[int, int, int] | None = None,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("RelationNet", "loss", loss, ("mse", "cross-entropy"))
        one_of("RelationNet", "pooling", pooling, ("sum", "mean"))
        one_of("RelationNet", "activation", activation, ("relu", "tanh"))
        if not hidden >= 1:
            raise InputError(f"RelationNet needs at least one hidden unit, received hidden={hidden}.")
        if map_shape is None and out_features is None:
            map_shape = getattr(net, "map_shape", None)
        features = known_size(net, out_features) if map_shape is None else prod(map_shape)
        self.embed = Embedder(net, strategy, features=features)
        self.objective, self.pooling = loss, pooling
        kind = norm or ("transductive" if transductive else "batch")
        if map_shape is not None:
            self.compare: CompareMaps | CompareVectors = CompareMaps(map_shape, hidden, kind)
        elif features is not None:
            self.compare = CompareVectors(features, hidden, kind, activation)
        else:
            raise InputError(
                f"Cannot build a comparison on {type(net).__name__}: the size of its features is not known. "
                "Give the network an attribute map_shape (C, H, W) or out_features, or pass either."
            )
        _check_norms(self.embed.transductive, uses_current_rows(self.compare), transductive)

    @staticmethod
    @override
    def default_norm(*, transductive: bool) -> str:
        return "transductive" if transductive else "batch"

    @property
    @override
    def traits(self) -> Traits:
        return Traits(transductive=self.embed.transductive, incremental=self.embed.singly)

    @override
    def adapt(self, support: Examples, *, state: Prototypes | None = None, key: Keys | None = None) -> Prototypes:
        check_support(support, state)
        self.embed.check_state(state)
        del key
        return prototypes(self.embed.support(support), support, state)

    @override
    def predict(self, state: Prototypes, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.ways)
        return self._relations(state, self.embed.query(state.moments, query), query)[0]

    @override
    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        """The objective of each task over its labelled rows, ``[T]``."""
        if self.objective == "cross-entropy":
            return task_loss(outputs, examples)
        if examples.y is None or not isinstance(examples.target, Classes):
            raise ValueError("Cannot compute a loss: these examples carry no class labels.")
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        classes = torch.arange(outputs.shape[2], device=outputs.device)
        counted = examples.labelled[..., None] & (classes < examples.target.way[:, None, None])  # [T, Nq, W]
        scores = torch.sigmoid(torch.where(counted, outputs, 0.0))
        square = (scores - (classes == examples.y[..., None]).to(scores.dtype)).square()
        return torch.where(counted, square, 0.0).sum((1, 2)) / counted.sum((1, 2)).clamp(min=1)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The loss of the query, with support and query embedded in one pass; see ``parts.embedder``."""
        del key
        features, query = self.embed.episode(episode), episode.query
        state = prototypes(features.support, episode.support, None)
        outputs, compared = self._relations(state, features.query, query)
        carried = {f"net.{name}": value for name, value in features.carried.items()}
        carried |= {f"compare.{name}": value for name, value in compared.carried.items()}
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query), carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        for prefix, net in (("net.", self.embed.net), ("compare.", self.compare)):
            mine = {name.removeprefix(prefix): value for name, value in carried.items() if name.startswith(prefix)}
            absorb_statistics(net, mine)

    def _relations(self, state: Prototypes, features: Tensor, query: Examples) -> tuple[Tensor, Applied]:
        """Logits ``[T, Nq, W]``, and what the comparison gave for all pairs of a query and a class."""
        classes = state.sums if self.pooling == "sum" else state.means  # [T, W, D]
        rows, way = features.shape[1], classes.shape[1]
        features = features.flatten(2)
        pairs = torch.stack(
            [classes[:, None].expand(-1, rows, -1, -1), features[:, :, None].expand(-1, -1, way, -1)], 3
        )  # [T, Nq, W, 2, D]
        # A class that a task does not have is no pair: batch statistics must not see it.
        there = query.real[..., None] & (state.counts > 0)[:, None]
        pairs, there = pairs.flatten(1, 2), there.flatten(1, 2)
        # Norms of no rows at all have no moments.
        compared = apply(self.compare, pairs, mask=there) if rows else Applied(pairs.new_zeros(*pairs.shape[:2], 1))
        return mask_absent(compared.out.reshape(features.shape[0], rows, way), query), compared


def _check_norms(net: bool, comparison: bool, asked: bool) -> None:
    """Network and comparison see other queries at test exactly where that was asked for.

    Args:
        net: the network's norms use the current rows.
        comparison: the comparison's do.
        asked: ``transductive``.
    """
    if asked and not (net and comparison):
        raise InputError(
            "transductive=True needs norms that use the current rows, in the network and in the comparison. Build the "
            "network with norm='transductive' and leave norm= of the learner out."
        )
    if comparison and not asked:
        raise InputError(
            "This comparison normalises with the current rows, so a prediction would depend on the queries beside it. "
            "Leave norm= out, or ask for it with transductive=True."
        )
