"""Floor 3: causal blocks over a sequence, and one more step after it.

Mishra et al. 2018, section 3. Each block appends channels to what it is given, so the channels after the last block
hold the input of every block. That is why a sequence, once read, can be gone on with from its last activations alone:

    over(x)                       positions 0 .. N-1, each seeing itself and what came before
    after(x, past, length)        many tokens, each by itself in position ``length``, behind the same past
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import ceil, log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.learners.parts.transformer import attend, attend_and_self


class AbstractBlock(nn.Module, ABC):
    """Appends channels.

    Args:
        inputs: channels that it is given.
        added: channels that it appends.
    """

    def __init__(self, inputs: int, added: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, inputs + added

    @abstractmethod
    def over(self, x: Tensor) -> Tensor:
        """``[T, N, inputs] -> [T, N, outputs]``; position n sees 0 .. n."""

    @abstractmethod
    def after(self, x: Tensor, past: Tensor, length: Tensor) -> Tensor:
        """The same for tokens behind a sequence, which do not see each other.

        Args:
            x: ``[T, Nq, inputs]``.
            past: ``[T, N, inputs or more]``, the sequence's activations.
            length: int64 ``[T]``, how long each sequence is; what stands behind does not count.

        Returns:
            ``[T, Nq, outputs]``.
        """


class DenseBlock(AbstractBlock):
    """A causal convolution of two taps, now and ``dilation`` steps ago, with a gate.

    Args:
        inputs: channels that it is given.
        filters: channels that it appends.
        dilation: steps between the taps.
    """

    def __init__(self, inputs: int, filters: int, dilation: int) -> None:
        super().__init__(inputs, filters)
        self.dilation = dilation
        self.now, self.then = nn.Linear(inputs, 2 * filters), nn.Linear(inputs, 2 * filters, bias=False)

    @override
    def over(self, x: Tensor) -> Tensor:
        before = F.pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        return self._gate(x, self.then(before))

    @override
    def after(self, x: Tensor, past: Tensor, length: Tensor) -> Tensor:
        place = length - self.dilation
        task = torch.arange(len(past), device=past.device)
        before = torch.where(place[:, None] >= 0, past[task, place.clamp(min=0), : self.inputs], 0.0)
        return self._gate(x, self.then(before)[:, None])

    def _gate(self, x: Tensor, then: Tensor) -> Tensor:
        value, gate = (self.now(x) + then).chunk(2, 2)
        return torch.cat([x, torch.tanh(value) * torch.sigmoid(gate)], 2)


class CausalAttention(AbstractBlock):
    """Attention with one head to all that came before, and to itself.

    Args:
        inputs: channels that it is given.
        keys: width of keys.
        values: channels that it appends.
    """

    def __init__(self, inputs: int, keys: int, values: int) -> None:
        super().__init__(inputs, values)
        self.to_query, self.to_key = nn.Linear(inputs, keys), nn.Linear(inputs, keys)
        self.to_value = nn.Linear(inputs, values)

    @override
    def over(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        seen = torch.ones(n, n, dtype=torch.bool, device=x.device).tril().expand(len(x), n, n)
        return torch.cat([x, attend(self.to_query(x), self.to_key(x), self.to_value(x), seen)], 2)

    @override
    def after(self, x: Tensor, past: Tensor, length: Tensor) -> Tensor:
        past = past[..., : self.inputs]
        there = torch.arange(past.shape[1], device=past.device) < length[:, None]
        support, own = ((self.to_key(rows), self.to_value(rows)) for rows in (past, x))
        return torch.cat([x, attend_and_self(self.to_query(x), support, own, there)], 2)


def temporal_block(inputs: int, filters: int, length: int) -> list[AbstractBlock]:
    """Dense blocks with dilations 1, 2, 4, ..., which together look back over ``length`` positions.

    Args:
        inputs: channels that the first is given.
        filters: channels that each appends.
        length: of a sequence, at least 2.
    """
    layers = ceil(log2(length))
    return [DenseBlock(inputs + number * filters, filters, 2**number) for number in range(layers)]
