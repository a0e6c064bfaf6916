"""Made-up bars: random walks whose volatility moves."""

from collections.abc import Sequence

import numpy as np

from quickstudy.data.bars import Share


def made_shares(lengths: Sequence[int], seed: int = 0) -> tuple[Share, ...]:
    """Shares that end on the same day, of so many days each; some opens, highs and lows are missing."""
    draw, shares = np.random.default_rng(seed), []
    longest = max(lengths)
    calendar = np.datetime64("2015-01-01", "D") + np.arange(longest) * 7 // 5
    for number, n in enumerate(lengths):
        size = np.exp(-4.2 + 0.3 * np.cumsum(draw.normal(size=n)) / np.sqrt(np.arange(1, n + 1)))
        inside = draw.normal(size=(n, 16)) * size[:, None] / 4
        path = np.exp(np.log(50) + inside.cumsum().reshape(n, 16))
        bars = np.stack([path[:, 0], path.max(1), path.min(1), path[:, -1], draw.uniform(1e3, 1e5, n)], 1)
        bars[draw.uniform(size=n) < 0.01, :3] = np.nan
        shares.append(Share(f"S{number:02d}", calendar[longest - n :], bars))
    return tuple(shares)
