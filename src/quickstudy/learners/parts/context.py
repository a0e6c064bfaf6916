"""Floor 3: full context embeddings (Vinyals et al. 2016, appendix A): features that know the whole support.

The recurrences are plain operations with a task axis: twice differentiable (cuDNN's LSTM is not), and rows that do not
count change nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Recurrence(nn.Module):
    """One step of a long short-term memory (Hochreiter and Schmidhuber 1997), without peepholes.

    Args:
        inputs: size of what is read.
        hidden: size of what is remembered of the step before.
        outputs: size of h and c.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.read = nn.Linear(inputs, 4 * outputs)
        self.remember = nn.Linear(hidden, 4 * outputs, bias=False)

    def forward(self, read: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The next h and c.

        Args:
            read: ``self.read(x)``, ``[..., 4 outputs]``, which many steps may share.
            hidden: ``[..., hidden]``.
            cell: c, ``[..., outputs]``.
        """
        enter, forget, candidate, leave = (read + self.remember(hidden)).chunk(4, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


class SupportContext(nn.Module):
    """g(x_i, S) = h_forward + h_backward + g'(x_i): a bidirectional LSTM over the support, with a skip connection.

    Args:
        features: D.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.forwards = Recurrence(features, features, features)
        self.backwards = Recurrence(features, features, features)

    def forward(self, features: Tensor, there: Tensor) -> Tensor:
        """``[T, Ns, D] -> [T, Ns, D]``.

        Args:
            features: g', in the order of the support.
            there: bool ``[T, Ns]``, False on rows that do not count.
        """
        rows = range(features.shape[1])
        return (
            features
            + self._pass(self.forwards, features, there, rows)
            + self._pass(self.backwards, features, there, rows[::-1])
        )

    @staticmethod
    def _pass(step: Recurrence, features: Tensor, there: Tensor, rows: range) -> Tensor:
        h = c = torch.zeros_like(features[:, 0])
        read, found = step.read(features), [h] * len(rows)
        for row in rows:
            here = there[:, row, None]
            new_h, new_c = step(read[:, row], h, c)
            h, c = torch.where(here, new_h, h), torch.where(here, new_c, c)
            found[row] = h
        return torch.stack(found, 1)


class QueryContext(nn.Module):
    """f(x, S): K steps of an LSTM that reads the query and attends to the support between steps.

        h_k, c_k = LSTM(f'(x), [h_{k-1}, r_{k-1}], c_{k-1}),  h_k += f'(x)
        r_{k-1} = sum_i softmax_i(h_{k-1} . g(x_i)) g(x_i)

    with h_0 = f'(x), which is what the second half of the first line says of k = 0 when the LSTM begins at zero.

    Args:
        features: D.
        steps: K.
    """

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.step = Recurrence(features, 2 * features, features)

    def forward(self, features: Tensor, support: Tensor, there: Tensor) -> Tensor:
        """``[T, Nq, D] -> [T, Nq, D]``.

        Args:
            features: f', of the queries.
            support: g, ``[T, Ns, D]``.
            there: bool ``[T, Ns]``, False on rows that do not count.
        """
        h, c, read = features, torch.zeros_like(features), self.step.read(features)
        for _ in range(self.steps):
            attention = (h @ support.transpose(1, 2)).masked_fill(~there[:, None], -torch.inf).softmax(2)
            added, c = self.step(read, torch.cat([h, attention @ support], 2), c)
            h = added + features
        return h
