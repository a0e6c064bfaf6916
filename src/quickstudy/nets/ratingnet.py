"""A network for rated items: an embedding of the item beside its features, and decision layers on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError
from quickstudy.nets.dense import Layer, task_chain

__all__ = ["RatingNet"]


class RatingNet(nn.Module):
    """Embeddings outside, decision layers inside.

    H. Lee, J. Im, S. Jang, H. Cho, S. Chung, "MeLU: meta-learned user preference estimator for cold-start
    recommendation", KDD 2019: what is known of an item is embedded by weights that all users share; a user's few
    ratings move the layers that decide. A gradient-based learner adapts all but :attr:`outer`. Here a user is known by
    the ratings alone, where MeLU has age, sex, job and place as well.

    Args:
        example: the shapes of ``item`` (a number; 0 is unknown) and ``features``.
        items: the most rated items that have an embedding of their own; all others share that of the unknown.
        width: numbers of an embedding.
        hidden: widths of the decision layers; a learner's head comes on top.

    Raises:
        InputError: examples of another kind, or sizes that make no sense.
    """

    batched_on_cpu = True
    without_fused_kernels = True
    named_inputs = True
    outer = ("embedding.",)
    """Where the names of parameters begin that are meta-trained, but that no task adapts."""

    def __init__(
        self,
        example: Mapping[str, tuple[int, ...]],
        *,
        items: int = 2000,
        width: int = 16,
        hidden: Sequence[int] = (64, 32),
    ) -> None:
        super().__init__()
        if not isinstance(example, Mapping) or set(example) != {"item", "features"}:
            raise InputError(
                f"The network 'ratings' is made for examples with 'item' and 'features', received {example}. Use it "
                "with the data set 'ratings' or 'movietweetings'."
            )
        if items < 1 or width < 1 or not hidden or min(hidden) < 1:
            raise InputError(
                f"A rating network needs at least one item, one number of embedding and one unit a layer, received "
                f"items={items}, width={width}, hidden={tuple(hidden)}."
            )
        self.features, self.items = example["features"][0], items
        self.embedding = nn.Embedding(items + 1, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        widths = [width + self.features, *hidden]
        self.linears = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.out_features = widths[-1]

    def _rows(self, x: Mapping[str, Tensor], weight: Tensor) -> Tensor:
        number = torch.where(x["item"] <= self.items, x["item"], 0)
        return torch.cat([F.embedding(number, weight), x["features"]], -1)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """``{item [N], features [N, F]} -> [N, out_features]``."""
        rows = self._rows(x, self.embedding.weight)
        for linear in self.linears:
            rows = F.relu(linear(rows))
        return rows

    def batched(self, params: dict[str, Tensor], x: Mapping[str, Tensor], head: Layer | None = None) -> Tensor:
        """``[T, N, out_features]``, or what a linear ``head`` makes of it; see ``nets.apply``."""
        weight = params["embedding.weight"]
        if weight.dim() == 3:  # embeddings of each task's own
            rows = torch.stack(
                [self._rows({n: leaf[t] for n, leaf in x.items()}, weight[t]) for t in range(len(weight))]
            )
        else:
            rows = self._rows(x, weight)
        layers = [(params[f"linears.{n}.weight"], params[f"linears.{n}.bias"]) for n in range(len(self.linears))]
        return task_chain(rows, layers, relu=True) if head is None else task_chain(rows, [*layers, head])
