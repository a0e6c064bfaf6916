"""A policy with a memory: a gated recurrent unit whose weights are arguments."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.nets.apply import Params

__all__ = ["RecurrentPolicy"]


class RecurrentPolicy(nn.Module):
    """K. Cho and others, "Learning phrase representations using RNN encoder-decoder", EMNLP 2014, with a linear layer.

    Written out, because torch's own recurrent layers take no weights from outside. The formulas are those of
    ``torch.nn.GRU``, and so are the names and the order of the gates.

    Args:
        inputs: I.
        hidden: numbers that it remembers.
        actions: A.
        log_std: logarithm of the actions' deviations at the start.
    """

    def __init__(self, inputs: int, hidden: int, actions: int, *, log_std: float = 0.0) -> None:
        super().__init__()
        like = dict(nn.GRU(inputs, hidden).named_parameters())
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = (
            nn.Parameter(like[f"{name}_l0"].detach().clone())
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        self.head = nn.Linear(hidden, actions)
        self.log_std = nn.Parameter(torch.full((actions,), log_std))
        self.hidden = hidden

    def weights(self) -> Params:
        """θ, by name."""
        return dict(self.named_parameters())

    def run(self, params: Params, x: Tensor, memory: Tensor, going: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Through L steps.

        Args:
            params: weights.
            x: ``[B, L, I]``.
            memory: ``[B, hidden]``.
            going: bool ``[B, L]``; other steps leave the memory as it is.

        Returns:
            Means of actions ``[B, L, A]``, logarithms of deviations ``[A]``, and the memory after the last step.
        """
        given = F.linear(x, params["weight_ih"], params["bias_ih"])
        kept = []
        for t in range(x.shape[1]):
            own = F.linear(memory, params["weight_hh"], params["bias_hh"])
            reset_in, update_in, new_in = given[:, t].chunk(3, 1)
            reset_own, update_own, new_own = own.chunk(3, 1)
            new = torch.tanh(new_in + torch.sigmoid(reset_in + reset_own) * new_own)
            after = torch.lerp(new, memory, torch.sigmoid(update_in + update_own))
            memory = torch.where(going[:, t, None], after, memory)
            kept.append(memory)
        mean = F.linear(torch.stack(kept, 1), params["head.weight"], params["head.bias"])
        return mean, params["log_std"].clamp(min=-6.0), memory
