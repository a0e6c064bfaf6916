"""Floor 5: nearest recording by dynamic time warping of MFCC, the recogniser of single words before networks."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.domains.speech.mfcc import cepstrum, spoken
from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support
from quickstudy.learners.parts.classwise import check_every_class, mask_absent, membership

__all__ = ["TimeWarping", "warped"]

_PAIRS = 512  # compared at once


class TimeWarping(AbstractLearner):
    """The word of the support recording that a query is most like after stretching time.

    H. Sakoe, S. Chiba, "Dynamic programming algorithm optimization for spoken word recognition", IEEE Transactions on
    Acoustics, Speech and Signal Processing 1978, on MFCC of the stretch between the first and the last loud frame.

    adapt:      keep the support's coefficients
    predict:    logits = minus the smallest distance to a recording of each class

    Inductive. It has nothing to train.

    Args:
        example: ``(samples,)`` of one waveform.
        rate: samples a second; the data's.
        band: how far the two times may drift apart, as a share of the longer recording.

    Raises:
        InputError: the inputs are no waveforms, or a band outside 0 .. 1.
    """

    def __init__(
        self, example: tuple[int, ...] | dict[str, tuple[int, ...]], *, rate: int = 8000, band: float = 0.2
    ) -> None:
        super().__init__()
        if not 0 <= band <= 1:
            raise InputError(f"Time warping needs a band from 0 to 1, received {band}.")
        self.cepstrum, self.band = cepstrum(example, rate), band

    @property
    @override
    def traits(self) -> Traits:
        return Traits(incremental=True, trainable=False)

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        """The state is the support with coefficients in place of waveforms, ``[T, Ns, frames, 1 + D]``."""
        check_support(support, state)
        del key
        known = Examples(self._sequences(support), support.y, support.target, support.mask)
        if state is not None:
            known = state.followed_by(known)
        check_every_class(membership(known).sum(1), known)
        return known

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        assert isinstance(state.x, Tensor)
        check_query(query, state)
        mine = self._sequences(query)
        (n_task, n_query), n_support = mine.shape[:2], state.x.shape[1]
        rows = mine[:, :, None].expand(-1, -1, n_support, -1, -1).flatten(0, 2)
        others = state.x[:, None].expand(-1, n_query, -1, -1, -1).flatten(0, 2)
        parts = zip(torch.split(rows, _PAIRS), torch.split(others, _PAIRS), strict=True)
        distance = torch.cat([self._distance(a, b) for a, b in parts]).view(n_task, n_query, n_support)
        members = membership(state)  # [T, Ns, W]
        nearest = distance[..., None].masked_fill(~members[:, None], torch.inf).amin(2)
        return mask_absent(-nearest, query)

    def _sequences(self, examples: Examples) -> Tensor:
        """``[T, N, frames, 1 + D]``: a column that says which frames are of the word, then the coefficients."""
        assert isinstance(examples.x, Tensor)
        x = torch.where(examples.real[..., None], examples.x, 0.0).flatten(0, 1)
        frames = self.cepstrum(x)
        first, last = spoken(self.cepstrum.mel(x))
        at = torch.arange(frames.shape[1], device=x.device)
        inside = (at >= first[:, None]) & (at <= last[:, None])
        weight = inside[..., None].to(frames)
        mean = (frames * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        spread = ((frames - mean).square() * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        frames = (frames - mean) / (spread + 1e-4).sqrt()
        # The word's frames come first, in order, so that all begin at 0.
        order = torch.where(inside, at, at + frames.shape[1]).argsort(1)
        row = torch.cat([weight, frames * weight], 2).gather(1, order[..., None].expand(-1, -1, frames.shape[2] + 1))
        return row.view(*examples.x.shape[:2], *row.shape[1:])

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        lengths = [part[..., 0].sum(1).long() for part in (a, b)]
        cost = torch.cdist(a[..., 1:], b[..., 1:])
        return warped(cost, lengths[0], lengths[1], self.band)


def warped(cost: Tensor, rows: Tensor, columns: Tensor, band: float = 1.0) -> Tensor:
    """Cost of the cheapest path from the first pair of frames to the last, by the sum of the two lengths.

    A step goes one frame on in either recording or in both; the step in both counts its pair twice (the symmetric form
    of Sakoe and Chiba), so that paths of any shape are comparable.

    Args:
        cost: ``[P, I, J]``, of each pair of frames.
        rows: ``[P]``, how many of the I frames there are.
        columns: ``[P]``, of the J.
        band: pairs further than this share of the longer recording from the line between its corners cost infinitely
            much.

    Returns:
        ``[P]``.
    """
    height, width = int(rows.max()), int(columns.max())  # no path goes further
    table = _banded(cost[:, :height, :width], rows, columns, band).permute(1, 2, 0).contiguous()  # [I, J, P]
    n, end, pair = cost.shape[0], rows + columns - 2, torch.arange(cost.shape[0], device=cost.device)
    # Pairs with equal i + j depend on those before alone: a few operators for each such diagonal of all P tables. Of a
    # diagonal, row i + 1 is that of frame i; row 0 is what lies outside.
    before = last = table.new_full((height + 1, n), torch.inf)
    found = table.new_full((n,), torch.inf)
    for total in range(height + width - 1):
        first, beyond = max(0, total - width + 1), min(height, total + 1)
        # In memory the diagonal's pairs lie J - 1 tables' widths apart.
        here = table.as_strided((beyond - first, n), ((width - 1) * n or n, 1), (total + first * (width - 1)) * n)
        if total == 0:
            step = 2 * here
        else:
            aside = torch.minimum(last[first:beyond], last[first + 1 : beyond + 1]) + here
            step = torch.minimum(before[first:beyond] + 2 * here, aside)
        now = torch.full_like(last, torch.inf)
        now[first + 1 : beyond + 1] = step
        found = torch.where(end == total, now[rows, pair], found)
        before, last = last, now
    return found / (rows + columns)


def _banded(cost: Tensor, rows: Tensor, columns: Tensor, band: float) -> Tensor:
    """Infinite where the two times have drifted too far apart, ``[P, I, J]``."""
    i = torch.arange(cost.shape[1], device=cost.device).view(1, -1, 1)
    j = torch.arange(cost.shape[2], device=cost.device).view(1, 1, -1)
    high, wide = (part.view(-1, 1, 1) for part in (rows, columns))
    slope = (wide - 1).to(cost) / (high - 1).clamp(min=1)
    # Wide enough for a path to exist, however unlike the lengths are.
    reach = torch.maximum(band * torch.maximum(high, wide), (1 + slope).clamp(min=1))
    return cost.masked_fill((i * slope - j).abs() > reach, torch.inf)
