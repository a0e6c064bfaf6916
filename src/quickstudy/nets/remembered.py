"""Floor 1: features that are computed once for as long as no weight changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from quickstudy.episode import may_read

__all__ = ["Remembered"]

_MOST = 200_000  # texts
_ROWS = 64  # computed at once, of like length

_State: TypeAlias = tuple[tuple[int, int, int, torch.dtype], ...]


class Remembered:
    """What a network made of each text, while all its weights are those that they were.

    It looks up only where no derivative is wanted, or none can be: in tests, and for frozen networks. A weight that was
    written to, exchanged, moved or handed in for one call (``functional_call``) makes it forget.
    """

    def __init__(self) -> None:
        self._state: _State | None = None
        self._weights: list[Tensor] = []  # held, so that no other tensor gets their identity
        self._known: dict[bytes, Tensor] = {}

    def __reduce__(self) -> tuple[type[Remembered], tuple[()]]:
        """A copy, with weights of its own, knows nothing."""
        return Remembered, ()

    def through(
        self, net: nn.Module, ids: Tensor, there: Tensor, compute: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """``compute(ids, there)``, of which rows that were seen before are looked up.

        Args:
            net: whose weights ``compute`` uses.
            ids: ``[N, L]``.
            there: ``[N, L]``, 0 where a text has ended, which is at its end.
            compute: gives ``[N, D]``, each row a function of its own tokens.
        """
        weights = [*net.parameters(), *net.buffers()]
        if ids.device.type != "cpu" or not _lasting(net, weights):
            return compute(ids, there)
        state = tuple((id(weight), weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
        if state != self._state or len(self._known) > _MOST:
            self._state, self._weights, self._known = state, weights, {}
        lengths = there.sum(1)
        rows, ends = ids.numpy(), lengths.tolist()
        keys = [rows[place, :end].tobytes() for place, end in enumerate(ends)]
        new = {key: place for place, key in enumerate(keys) if key not in self._known}
        places = torch.tensor(sorted(new.values(), key=ends.__getitem__), dtype=torch.long)
        for part in torch.split(places, _ROWS) if len(places) else ():
            wide = max(int(lengths[part].max()), 1)
            out = compute(ids[part, :wide], there[part, :wide]).detach()
            for place, row in zip(part.tolist(), out, strict=True):
                self._known[keys[place]] = row.clone()
        return torch.stack([self._known[key] for key in keys])


def _lasting(net: nn.Module, weights: list[Tensor]) -> bool:
    """Whether the weights are the network's own, and neither a derivative nor a transform asks for more."""
    own = all(isinstance(weight, nn.Parameter) for weight in net.parameters())
    wanted = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
    inside = torch._C._functorch.peek_interpreter_stack() is not None  # of vmap, or of grad
    return own and not wanted and not inside and may_read()
