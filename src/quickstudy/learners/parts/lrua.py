"""Floor 3: a recurrent controller with an external memory, written by least recently used access.

Santoro et al. 2016, section 3. Everything is plain operations on B sequences at once, so it has every derivative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.errors import InputError


@dataclass(frozen=True, eq=False)
class Memory:
    """Controller and memory of B sequences.

    Args:
        hidden: ``[B, H]``, the LSTM's output.
        cell: ``[B, H]``, the LSTM's state.
        reads: ``[B, heads, width]``, what each head read last.
        rows: ``[B, slots, width]``, the memory.
        read_weights: ``[B, heads, slots]``, where each head read last.
        usage: ``[B, slots]``, how much each slot has been used of late.
    """

    hidden: Tensor
    cell: Tensor
    reads: Tensor
    rows: Tensor
    read_weights: Tensor
    usage: Tensor

    def where(self, changed: Tensor, after: Memory) -> Memory:
        """``after`` for the sequences with ``changed`` ``[B]``, this one for the others."""
        pairs = zip(vars(self).values(), vars(after).values(), strict=True)
        return Memory(*(torch.where(changed.view(-1, *(1,) * (old.dim() - 1)), new, old) for old, new in pairs))

    def repeated(self, n: int) -> Memory:
        """Each sequence n times, one copy after the other."""
        return Memory(*(part.repeat_interleave(n, 0) for part in vars(self).values()))


class LRUA(nn.Module):
    """One step of an LSTM that reads from and writes to a memory.

    Args:
        inputs: numbers an example.
        hidden: units of the LSTM.
        slots: rows of the memory.
        width: numbers in a row.
        heads: that read and write.
        decay: of usage from step to step.

    Raises:
        InputError: a size below 1, more heads than slots, or a decay outside 0 .. 1.
    """

    def __init__(self, inputs: int, *, hidden: int, slots: int, width: int, heads: int, decay: float) -> None:
        super().__init__()
        if min(inputs, hidden, slots, width, heads) < 1 or heads > slots or not 0 <= decay <= 1:
            raise InputError(
                "Cannot build a memory: sizes must be at least 1, heads at most as many as slots, and the decay in "
                f"0 .. 1; received hidden={hidden}, slots={slots}, width={width}, heads={heads}, decay={decay}."
            )
        self.sizes = (hidden, slots, width, heads)
        self.decay = decay
        self.gates = nn.Linear(inputs + hidden + heads * width, 4 * hidden)
        self.to_keys = nn.Linear(hidden, heads * width)
        self.to_mix = nn.Linear(hidden, heads)

    def empty(self, n: int) -> Memory:
        """Nothing seen, nothing stored, for n sequences."""
        hidden, slots, width, heads = self.sizes
        shapes = ((hidden,), (hidden,), (heads, width), (slots, width), (heads, slots), (slots,))
        return Memory(*(self.gates.weight.new_zeros(n, *shape) for shape in shapes))

    @override
    def forward(self, x: Tensor, before: Memory) -> Memory:
        """One step.

        Args:
            x: ``[B, inputs]``.
            before: after the step before.
        """
        heads = self.sizes[3]
        told = torch.cat([x, before.hidden, before.reads.flatten(1)], 1)
        into, forget, out, new = self.gates(told).chunk(4, 1)
        cell = torch.sigmoid(forget) * before.cell + torch.sigmoid(into) * torch.tanh(new)
        hidden = torch.sigmoid(out) * torch.tanh(cell)
        keys = torch.tanh(self.to_keys(hidden)).view(len(x), heads, self.sizes[2])  # [B, heads, width]
        mix = torch.sigmoid(self.to_mix(hidden))[..., None]  # [B, heads, 1]
        least, first = self.least_used(before.usage)
        writes = mix * before.read_weights + (1 - mix) * least[:, None]
        rows = before.rows * (1 - first)[..., None] + writes.transpose(1, 2) @ keys
        weights = (unit(keys) @ unit(rows).transpose(1, 2)).softmax(2)
        usage = self.decay * before.usage + weights.sum(1) + writes.sum(1)
        return Memory(hidden, cell, weights @ rows, rows, weights, usage)

    def least_used(self, usage: Tensor) -> tuple[Tensor, Tensor]:
        """Ones at the least used slots, as many as heads, and at the very least, which is erased; both ``[B, slots]``.

        Slots never touched are used alike but for round-off, which differs with the number of sequences. What is
        added here, far above round-off and far below any use, sets them in order.
        """
        _, slots, _, heads = self.sizes
        nudge = 1e-6 * torch.arange(slots, device=usage.device, dtype=usage.dtype)
        order = (usage.detach() + nudge).argsort(1)
        least = torch.zeros_like(usage).scatter(1, order[:, :heads], 1.0)
        return least, torch.zeros_like(usage).scatter(1, order[:, :1], 1.0)


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1, but for those shorter than about 1e-4, which stay short; smooth everywhere."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-8)
