"""Memory-augmented neural networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.classwise import check_every_class, mask_absent, ways_of
from quickstudy.learners.parts.embedder import Features
from quickstudy.learners.parts.lrua import LRUA, Memory
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
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments


@dataclass(frozen=True, eq=False)
class Remembered:
    """The memory after the support.

    Args:
        memory: controller and memory, see ``parts.lrua``.
        label: ``[T, W]``, the last support label, which is told beside the next example.
        counts: ``[T, W]``, examples seen of each class.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    memory: Memory
    label: Tensor
    counts: Tensor
    moments: Moments


class MANN(AbstractLearner):
    """A recurrent network writes the support, example by example, into a memory that it learned to use.

    A. Santoro, S. Bartunov, M. Botvinick, D. Wierstra, T. Lillicrap, "Meta-learning with memory-augmented neural
    networks", ICML 2016.

    adapt:      the support in an order drawn for the task; for t = 1 .. Ns the LSTM reads (x_t, y_{t-1}, r_{t-1}) and
                gives each head a key k_t and a gate α_t. A head writes its key where it read last and to the least
                used slots, then reads by cosine similarity with its key:
                w^w_t = σ(α_t) w^r_{t-1} + (1 - σ(α_t)) w^lu_{t-1},  M_t = M_{t-1} + Σ w^w_t k_t,
                w^r_t = softmax cos(k_t, M_t),  r_t = w^r_t M_t,  w^u_t = γ w^u_{t-1} + Σ w^r_t + Σ w^w_t
    predict:    one more step with (x, y_Ns) from that memory, for each query its own; logits = W [h, r]
    meta-loss:  cross-entropy of the queries

    Unlike ``snail``, which looks back at every example, what it keeps of the support has a fixed size.

    When to choose it: as the historical reference for memories, or for long streams that must be kept in constant
    space. It needs very many training tasks, and its published accuracy is far below that of metric learners.

    Deviations: the paper scores every step of one long sequence, in which earlier queries are later support; here
    the loss is on the queries after a labelled support, each query a stream of its own. The paper calls α a gate
    parameter; here the controller gives each head one at every step. The least used slots are exactly as many as heads,
    equals by their number, and the very least is erased before writing; keys pass a tanh, which the paper leaves open,
    as it does the initial weights. Cosines have a floor of 1e-4 under each length, which gives the empty memory a
    derivative.

    The order of the support matters. By default it is drawn from the task's key, in training and after, as in the
    paper: were classes always in their order, an example's place would say its label. Inductive: a prediction depends
    on the support and that query alone.

    Args:
        net: makes features of examples; None: the examples themselves, as published.
        outputs: the way.
        target: ``"classes"``, the only one.
        in_features: size of one flattened example, needed without a network.
        hidden: units of the LSTM.
        slots: rows of the memory.
        width: numbers in a row.
        heads: that read and write; one alone has a single key both to store with and to ask with.
        decay: γ, of usage.
        order: of the support: ``"drawn"``, or ``"given"``, as its rows stand, where they are a stream.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: sizes that are missing or make no sense, another target, no such order.

    >>> MANN(outputs=5, in_features=4).traits.order_invariant
    False
    """

    def __init__(
        self,
        net: nn.Module | None = None,
        outputs: int | None = None,
        target: Literal["classes"] = "classes",
        *,
        in_features: int | None = None,
        hidden: int = 200,
        slots: int = 128,
        width: int = 40,
        heads: int = 4,
        decay: float = 0.99,
        order: Order = "drawn",
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("MANN", "target", target, ("classes",))
        one_of("MANN", "order", order, get_args(Order))
        self.outputs, self.order = known_outputs(outputs, "MANN"), order
        self.rows = RowFeatures(net, in_features, out_features, strategy)
        inputs = self.rows.out_features + self.outputs
        self.cell = LRUA(inputs, hidden=hidden, slots=slots, width=width, heads=heads, decay=decay)
        self.head = nn.Linear(hidden + heads * width, self.outputs)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights of labels and of keys from a wider range than torch does.

        With torch's own, a label is one number among all features and weighs next to nothing in what is written: it
        is hard to find in the memory again.
        """
        labels = self.cell.gates.weight[:, self.rows.out_features : self.rows.out_features + self.outputs]
        for weight in (labels, self.cell.to_keys.weight):
            nn.init.uniform_(weight, -0.3, 0.3)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(any_way=False, order_invariant=False, renames=False, transductive=self.rows.transductive)

    @override
    def adapt(self, support: Examples, *, state: Remembered | None = None, key: Keys | None = None) -> Remembered:
        check_support(support, state)
        return self._write(self.rows.support(support), support, state, key)

    @override
    def predict(self, state: Remembered, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, ways_of(state.counts))
        return self._ask(state, self.rows.query(state.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss after the support has been written."""
        features, query = self.rows.episode(episode), episode.query
        state = self._write(features.support, episode.support, None, key)
        outputs = self._ask(state, features.query, query)
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.rows.absorb(carried)

    def _write(self, features: Features, support: Examples, before: Remembered | None, key: Keys | None) -> Remembered:
        check_fits(support, "classes", self.outputs)
        there, keys = support.labelled, order_keys(self.order, key, support.n_task)
        rows = to_front(features.out, there, keys)
        labels = to_front(label_rows(support, self.outputs, features.out), there, keys)
        counts = labels.sum(1)
        if before is None:
            memory, label = self.cell.empty(support.n_task), torch.zeros_like(counts)
        else:
            memory, label, counts = before.memory, before.label, counts + before.counts
        check_every_class(counts[:, : support.max_way], support)
        length = there.sum(1)
        for t in range(int(length.max())):
            going_on = t < length
            after = self.cell(torch.cat([rows[:, t], label], 1), memory)
            memory, label = memory.where(going_on, after), torch.where(going_on[:, None], labels[:, t], label)
        return Remembered(memory, label, counts, features.moments)

    def _ask(self, state: Remembered, features: Tensor, query: Examples) -> Tensor:
        n = features.shape[1]
        label = state.label[:, None].expand(-1, n, -1)
        after = self.cell(torch.cat([features, label], 2).flatten(0, 1), state.memory.repeated(n))
        logits = self.head(torch.cat([after.hidden, after.reads.flatten(1)], 1)).view(query.n_task, n, self.outputs)
        return mask_absent(logits[..., : query.max_way], query)
