"""The simple neural attentive meta-learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.classwise import check_every_class, mask_absent
from quickstudy.learners.parts.embedder import Features
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.rows import (
    Order,
    RowFeatures,
    check_fits,
    known_outputs,
    label_rows,
    order_keys,
    to_front,
)
from quickstudy.learners.parts.temporal import AbstractBlock, CausalAttention, temporal_block
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments


@dataclass(frozen=True, eq=False)
class Sequence:
    """A support sequence as it has been read.

    Args:
        activations: ``[T, Ns, C]`` after the last block; the first channels are the tokens themselves.
        length: int64 ``[T]``, how many rows each task has, standing in front.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    activations: Tensor
    length: Tensor
    moments: Moments


class SNAIL(AbstractLearner):
    """Read the support as a sequence, by causal convolutions and attention in turn; a query is its next element.

    N. Mishra, M. Rohaninejad, X. Chen, P. Abbeel, "A simple neural attentive meta-learner", ICLR 2018.

    adapt:      tokens (f(x_i), y_i), in an order drawn for the task, through attention, temporal block, attention,
                temporal block, attention, where
                    dense block       x_t ++ tanh(V x_t + V' x_{t-d}) · sigmoid(U x_t + U' x_{t-d}), d = 1, 2, 4, ...
                    attention         x_t ++ softmax(q(x_t) k(x_{<=t}) / √K) v(x_{<=t})
    predict:    the token (f(x), 0) in the next position; outputs = W (its last activation)
    meta-loss:  cross-entropy of the queries; squared error for real targets

    Unlike ``mann`` it looks at every earlier example instead of a memory of fixed size, and unlike ``in-context`` it
    knows their order.

    When to choose it: supports that are sequences, such as trajectories (with ``order="given"``), or as the published
    reference of 2018. Where the order means nothing, ``in-context`` has the same idea with the symmetry built in.

    Deviations: each query is the next element of its own stream behind the same support, so several are asked at once
    where the paper has one an episode. Dilations begin at 1, so that the receptive field covers every position.

    The order of the support matters. By default it is drawn from the task's key, in training and after, as in the
    paper: were classes always in their order, an example's place would say its label. Inductive: a prediction depends
    on the support and that query alone.

    Args:
        net: makes features of examples; None: the examples themselves.
        outputs: the way, or D.
        target: ``"classes"`` or ``"real"``.
        in_features: size of one flattened example, needed without a network.
        length: support rows and one query, over which the convolutions look back; behind longer supports they see
            the newest rows, and attention all.
        filters: channels that each dense block appends.
        keys: width of the three attentions' keys.
        values: channels that they append.
        order: of the support: ``"drawn"``, or ``"given"``, as its rows stand, where they are a sequence.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: sizes that are missing or make no sense, another target, no such order.

    >>> SNAIL(outputs=5, in_features=4, length=6).traits.order_invariant
    False
    """

    def __init__(
        self,
        net: nn.Module | None = None,
        outputs: int | None = None,
        target: Literal["classes", "real"] = "classes",
        *,
        in_features: int | None = None,
        length: int = 26,
        filters: int = 128,
        keys: tuple[int, int, int] = (64, 256, 512),
        values: tuple[int, int, int] = (32, 128, 256),
        order: Order = "drawn",
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if length < 2 or min(filters, *keys, *values) < 1:
            raise InputError(
                "SNAIL needs a length of at least 2 (one support row and the query) and layers of at least 1 unit, "
                f"received length={length}, filters={filters}, keys={keys}, values={values}."
            )
        one_of("SNAIL", "target", target, ("classes", "real"))
        one_of("SNAIL", "order", order, get_args(Order))
        self.outputs, self.target, self.order = known_outputs(outputs, "SNAIL"), target, order
        self.rows = RowFeatures(net, in_features, out_features, strategy)
        self.inputs = self.rows.out_features + self.outputs
        self.blocks = _blocks(self.inputs, length, filters, keys, values)
        self.head = nn.Linear(_outputs_of(self.blocks), self.outputs)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(
            targets=(self.target,),
            any_way=False,
            order_invariant=False,
            renames=False,
            transductive=self.rows.transductive,
        )

    @override
    def adapt(self, support: Examples, *, state: Sequence | None = None, key: Keys | None = None) -> Sequence:
        check_support(support, state)
        return self._read(self.rows.support(support), support, state, key)

    @override
    def predict(self, state: Sequence, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, self.outputs)
        return self._ask(state, self.rows.query(state.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss, each query the next element behind the support."""
        features, query = self.rows.episode(episode), episode.query
        state = self._read(features.support, episode.support, None, key)
        outputs = self._ask(state, features.query, query)
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.rows.absorb(carried)

    def _read(self, features: Features, support: Examples, before: Sequence | None, key: Keys | None) -> Sequence:
        check_fits(support, self.target, self.outputs)
        tokens = torch.cat([features.out, label_rows(support, self.outputs, features.out)], 2)
        there = support.labelled
        tokens = to_front(tokens, there, order_keys(self.order, key, support.n_task))
        there = there.sort(dim=1, descending=True)[0]
        if before is not None:
            earlier = before.activations[..., : self.inputs]
            stood = torch.arange(earlier.shape[1], device=earlier.device) < before.length[:, None]
            tokens, there = torch.cat([earlier, tokens], 1), torch.cat([stood, there], 1)
        length = there.sum(1)
        x = to_front(tokens, there)[:, : int(length.max())]
        if isinstance(support.target, Classes):
            check_every_class(x[..., self.rows.out_features :].sum(1)[:, : support.max_way], support)
        for block in self.blocks:
            assert isinstance(block, AbstractBlock)
            x = block.over(x)
        return Sequence(x, length, features.moments)

    def _ask(self, state: Sequence, features: Tensor, query: Examples) -> Tensor:
        x = F.pad(features, (0, self.outputs))  # a label of zeros
        for block in self.blocks:
            assert isinstance(block, AbstractBlock)
            x = block.after(x, state.activations, state.length)
        out: Tensor = self.head(x)
        return mask_absent(out[..., : query.max_way], query) if isinstance(query.target, Classes) else out


def _outputs_of(blocks: nn.ModuleList) -> int:
    last = blocks[-1]
    assert isinstance(last, AbstractBlock)
    return last.outputs


def _blocks(
    inputs: int, length: int, filters: int, keys: tuple[int, int, int], values: tuple[int, int, int]
) -> nn.ModuleList:
    """Attention, with a temporal block between one and the next."""
    blocks: list[AbstractBlock] = [CausalAttention(inputs, keys[0], values[0])]
    for key, value in zip(keys[1:], values[1:], strict=True):
        blocks += temporal_block(blocks[-1].outputs, filters, length)
        blocks.append(CausalAttention(blocks[-1].outputs, key, value))
    return nn.ModuleList(blocks)
