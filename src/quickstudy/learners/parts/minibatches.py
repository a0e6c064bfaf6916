"""Floor 3: minibatches of a support set, drawn from a key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys, shuffle


def minibatches(support: Examples, size: int | None, steps: int, key: Keys) -> list[Examples]:
    """One minibatch for each step: passes through the shuffled support, run together (Reptile's way).

    Every pass reshuffles; a batch may straddle two passes, so that each example is seen equally often. A task whose
    support is no larger than a batch takes the whole of it every time.

    Args:
        support: ``[T, Ns, ...]``.
        size: rows a batch; None, or a size of at least Ns for each task: the whole support every time.
        steps: how many batches.
        key: randomness for each task.

    Returns:
        ``steps`` sets of ``[T, size, ...]``.

    Raises:
        InputError: a batch of no rows.
    """
    if size is not None and not size >= 1:
        raise InputError(f"A minibatch needs at least 1 row, received batch={size}. None takes the whole support.")
    rows = support.real.sum(1).cpu().numpy()  # [T]
    if size is None or size >= rows.max() or steps == 0:
        return [support] * steps
    whole = rows <= size  # [T]: these take all their rows every time, whatever stands beside them
    passes = -(-size * steps // int(rows[~whole].min()))
    longest = int(rows.max())
    orders = np.stack([shuffle(key.bits(longest, stream=n), rows) for n in range(passes)], 1)  # [T, P, Ns]
    position = np.arange(size * steps)[None]
    turn = np.minimum(position // rows[:, None], passes - 1)
    picked = orders[np.arange(len(rows))[:, None], turn, position % rows[:, None]]  # among each task's real rows
    within = np.broadcast_to(position % size, picked.shape)
    picked = np.where(whole[:, None], np.minimum(within, rows[:, None] - 1), picked)
    there = ~whole[:, None] | (within < rows[:, None])  # False on the padding of a support smaller than a batch
    if support.mask is not None:  # the n-th real row need not be row n
        place_of = np.argsort(~support.mask.cpu().numpy(), 1, kind="stable")
        picked = np.take_along_axis(place_of, picked, 1)
    index, mask = (torch.from_numpy(part).to(support.device) for part in (picked, there))
    parts = (slice(step * size, (step + 1) * size) for step in range(steps))
    ragged = bool(whole.any())
    return [replace(support.take(index[:, part]), mask=mask[:, part] if ragged else None) for part in parts]
