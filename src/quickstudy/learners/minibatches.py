"""Floor 3: minibatches of a support set, drawn from a key."""

from __future__ import annotations

import numpy as np
import torch

from quickstudy.episode import Examples
from quickstudy.keys import Keys, shuffle


def minibatches(support: Examples, size: int | None, steps: int, key: Keys) -> list[Examples]:
    """One minibatch for each step: passes through the shuffled support, run together (Reptile's way).

    Every pass reshuffles; a batch may straddle two passes, so that each example is seen equally often.

    Args:
        support: ``[T, Ns, ...]``.
        size: rows a batch; None, or a size of at least Ns for each task: the whole support every time.
        steps: how many batches.
        key: randomness for each task.

    Returns:
        ``steps`` sets of ``[T, size, ...]``.
    """
    rows = support.real.sum(1).cpu().numpy()  # [T]
    if size is None or size >= rows.max():
        return [support] * steps
    passes = -(-size * steps // int(rows.min()))
    longest = int(rows.max())
    orders = np.stack([shuffle(key.bits(longest, stream=n), rows) for n in range(passes)], 1)  # [T, P, Ns]
    place = np.arange(size * steps)[None] % rows[:, None]
    turn = np.arange(size * steps)[None] // rows[:, None]
    picked = orders[np.arange(len(rows))[:, None], turn, place]  # among each task's real rows
    if support.mask is not None:  # the n-th real row need not be row n
        place_of = np.argsort(~support.mask.cpu().numpy(), 1, kind="stable")
        picked = np.take_along_axis(place_of, picked, 1)
    index = torch.from_numpy(picked).to(support.device)
    return [support.take(index[:, step * size : (step + 1) * size]) for step in range(steps)]
