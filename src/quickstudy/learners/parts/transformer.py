"""Floor 3: attention by plain operations, and a transformer in which queries read a support set.

Plain operations have every derivative; torch's fused attention has no second one on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError


@dataclass(frozen=True, eq=False)
class Cache:
    """What queries need of the support: each layer's keys and values.

    Args:
        keys: ``[T, L, Ns, width]``.
        values: ``[T, L, Ns, width]``.
        there: bool ``[T, Ns]``, False on rows that do not count.
    """

    keys: Tensor
    values: Tensor
    there: Tensor


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``[T, N, heads * d] -> [T, heads, N, d]``."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)


def attention_logits(queries: Tensor, keys: Tensor, there: Tensor, heads: int) -> Tensor:
    """Scaled products ``[T, heads, Nq, Ns]``, -inf for rows that do not count.

    Args:
        queries: ``[T, Nq, width]``.
        keys: ``[T, Ns, width]``.
        there: bool ``[T, Ns]``, or ``[T, Nq, Ns]`` where each query sees rows of its own.
        heads: equal parts of width that attend on their own.
    """
    q, k = split_heads(queries, heads), split_heads(keys, heads)
    logits = q @ k.transpose(2, 3) / sqrt(q.shape[3])
    hidden = ~(there[:, None, None] if there.dim() == 2 else there[:, None])
    return logits.masked_fill(hidden, -torch.inf)


def attend(queries: Tensor, keys: Tensor, values: Tensor, there: Tensor, heads: int = 1) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017), ``[T, Nq, width of values]``.

    Args:
        queries: ``[T, Nq, width]``.
        keys: ``[T, Ns, width]``.
        values: ``[T, Ns, width of values]``, finite everywhere.
        there: see :func:`attention_logits`; at least one row for every query.
        heads: how many.
    """
    weights = attention_logits(queries, keys, there, heads).softmax(3)
    read: Tensor = weights @ split_heads(values, heads)
    return read.transpose(1, 2).flatten(2)


def attend_and_self(
    queries: Tensor, support: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], there: Tensor, heads: int = 1
) -> Tensor:
    """Attention of each query to the support and to itself, never to another query, ``[T, Nq, width of values]``.

    Args:
        queries: ``[T, Nq, width]``.
        support: keys ``[T, Ns, width]`` and values ``[T, Ns, ...]``.
        own: key ``[T, Nq, width]`` and value ``[T, Nq, ...]`` of each query.
        there: see :func:`attention_logits`.
        heads: how many.
    """
    own_key, own_value = (split_heads(part, heads) for part in own)
    itself = (split_heads(queries, heads) * own_key).sum(3, keepdim=True) / sqrt(own_key.shape[3])  # [T, heads, Nq, 1]
    weights = torch.cat([attention_logits(queries, support[0], there, heads), itself], 3).softmax(3)
    read = weights[..., :-1] @ split_heads(support[1], heads) + weights[..., -1:] * own_value
    return read.transpose(1, 2).flatten(2)


class Layer(nn.Module):
    """One pre-norm transformer layer.

    Args:
        width: of a token.
        heads: of attention.
        hidden: units of the layer's perceptron.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_query, self.to_key, self.to_value = (nn.Linear(width, width) for _ in range(3))
        self.join = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        # A row first attends to rows that look like it, from which training goes on much faster than from chance.
        self.to_query.load_state_dict(self.to_key.state_dict())

    def cache(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of rows, ``[T, Ns, width]`` both."""
        normed = self.before(x)
        return self.to_key(normed), self.to_value(normed)

    def support(self, x: Tensor, keys: Tensor, values: Tensor, there: Tensor) -> Tensor:
        """Support rows attend to each other, ``[T, Ns, width]``."""
        return self._after(x, attend(self.to_query(self.before(x)), keys, values, there, self.heads))

    def query(self, x: Tensor, keys: Tensor, values: Tensor, there: Tensor) -> Tensor:
        """Each query attends to the support and to itself, never to another query, ``[T, Nq, width]``."""
        queries = self.to_query(self.before(x))
        return self._after(x, attend_and_self(queries, (keys, values), self.cache(x), there, self.heads))

    def _after(self, x: Tensor, read: Tensor) -> Tensor:
        x = x + self.join(read)
        out: Tensor = x + self.narrow(F.gelu(self.widen(self.between(x))))
        return out


class Transformer(nn.Module):
    """Layers in which the support reads itself and each query reads the support; nothing knows an order.

    Args:
        width: of a token.
        layers: how many.
        heads: of attention; divides ``width``.
        hidden: units of each layer's perceptron; twice ``width`` by default.

    Raises:
        InputError: sizes that do not fit.
    """

    def __init__(self, width: int, layers: int, heads: int, hidden: int | None = None) -> None:
        super().__init__()
        if min(width, layers, heads) < 1 or width % heads:
            raise InputError(
                f"Cannot build a transformer of width {width} with {layers} layers and {heads} heads: "
                "each must be at least 1, and the width a multiple of the heads."
            )
        self.layers = nn.ModuleList(Layer(width, heads, hidden or 2 * width) for _ in range(layers))
        self.last = nn.LayerNorm(width)

    def support(self, tokens: Tensor, there: Tensor) -> Cache:
        """What queries need of the support.

        Args:
            tokens: ``[T, Ns, width]``, finite everywhere.
            there: bool ``[T, Ns]``, at least one row a task.
        """
        keys, values = [], []
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            key, value = layer.cache(tokens)
            keys.append(key)
            values.append(value)
            if number + 1 < len(self.layers):  # nobody reads the support after the last layer
                tokens = layer.support(tokens, key, value, there)
        return Cache(torch.stack(keys, 1), torch.stack(values, 1), there)

    def query(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Queries after all layers, ``[T, Nq, width]``.

        Args:
            tokens: ``[T, Nq, width]``, finite everywhere.
            cache: from :meth:`support`.
        """
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            tokens = layer.query(tokens, cache.keys[:, number], cache.values[:, number], cache.there)
        out: Tensor = self.last(tokens)
        return out


def simplex(n: int) -> Tensor:
    """The corners of a regular simplex round the origin, ``[n, n]``: length 1, every inner product -1 / (n - 1)."""
    if n == 1:
        return torch.ones(1, 1)
    return (torch.eye(n) - 1 / n) * sqrt(n / (n - 1))
