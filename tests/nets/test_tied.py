"""A network that uses a layer, or a weight, in two places, under a task's own weights."""

import pytest
import torch
from torch import Tensor, nn

from quickstudy.nets.apply import Strategy, apply


class Twice(nn.Module):
    """One layer under two names, or two layers with one weight."""

    def __init__(self, same_layer: bool) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first if same_layer else nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(x)))
        return out


@pytest.mark.parametrize("same_layer", [True, False])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_every_place_gets_the_tasks_weights(strategy: Strategy, same_layer: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x = Twice(same_layer).double(), torch.randn(2, 4, 3, dtype=torch.float64)
        own = {n: torch.randn(2, *p.shape, dtype=torch.float64, requires_grad=True) for n, p in net.named_parameters()}
    before = dict(net.named_parameters())
    out = apply(net, x, params=own, strategy=strategy).out
    for t in range(2):
        w = own["first.weight"][t]
        last = own["first.bias" if same_layer else "second.bias"][t]
        by_hand = torch.tanh(x[t] @ w.T + own["first.bias"][t]) @ w.T + last
        torch.testing.assert_close(out[t], by_hand, rtol=1e-12, atol=1e-12)
    after = dict(net.named_parameters())
    assert before.keys() == after.keys() and all(before[n] is after[n] for n in before)
    assert isinstance(net.second.weight, nn.Parameter) and net.second.weight is net.first.weight
