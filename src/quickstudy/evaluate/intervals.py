"""Floor 4: three 95 % intervals for the mean over episodes.

    episode_ci95   would another draw of episodes *from these classes* give another mean?
    class_ci95     would another draw of *classes* give another mean?
    row_ci95       would another draw of *rows* (patients of one hospital) give another mean?

Papers print the first. It treats episodes as independent, but 600 five-way episodes from 423 classes use each
class seven times, and a class that is hard once is hard every time. The first interval shrinks to nothing as
episodes are added; the second does not shrink below what the number of classes allows, and so it is the one to
read when the question is how the learner does on *other* classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from quickstudy.evaluate.scores import Floats, Numbers

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Z95 = 1.96
"""Half the width of the middle 95 % of a normal distribution, as papers round it."""


def episode_ci95(values: Floats) -> float:
    """Half-width of the usual interval, 1.96 s / sqrt(E).

    Args:
        values: ``[E]``, one figure an episode.

    Returns:
        The half-width; infinite for a single episode, which says nothing of the spread, and for infinite values.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return math.inf
    if values.min() == values.max():  # whose mean is rounded, so that each would deviate from it by a trace
        return 0.0
    with np.errstate(over="ignore"):  # a spread beyond 1e308 is infinite
        return Z95 * float(values.std(ddof=1)) / math.sqrt(len(values))


def class_ci95(values: Floats, classes: Numbers) -> float | None:
    """Half-width of an interval for the mean over a fresh draw of classes.

    An episode's figure is taken to be the mean of an effect of each of its classes, plus its own luck:
    h_e = mean of β_c over c in e, plus ε_e, with var β = τ² and var ε = σ². Two episodes then correlate by the
    classes that they share: cov(h_e, h_f) = K_ef τ², K_ef = shared / (way_e way_f). Two quadratic forms in
    d = h - mean, d'd and d'Kd, have expectations linear in τ² and σ²; solving these two equations (Henderson's
    method of moments, 1953) gives τ², unbiased for any design, and with it the variance of the mean:

        s² / E  +  τ² · (sum of K off the diagonal) / (E (E - 1))

    which is the usual variance where no class occurs twice. Student's t with C - 1 degrees of freedom stands
    for 1.96, since test sets of ten classes exist.

    Why no bootstrap over classes: drawing classes with replacement, and with them their query rows, counts
    luck within an episode as if it belonged to the class, and blames the class missed for what the class beside
    it did. With nearest neighbours on Omniglot's pixels (100 classes, 5-way 1-shot) that interval is 1.7 times
    too wide; in a simulation of 20 classes that differ in their neighbours only it holds the truth 72 times in
    100. This one is within 12 % of the true spread in both. It held the truth 93 times in 100 with 40 classes or
    more, 91 with 20, 89 with ten, whose spread cannot be known well.

    Args:
        values: ``[E]``, one figure an episode.
        classes: int64 ``[E, W]``, the data set's numbers of each episode's classes, -1 where it has fewer.

    Returns:
        The half-width; infinite where :func:`episode_ci95` is; None if all episodes have the same classes,
        which says nothing of others.
    """
    from scipy.special import stdtrit  # scipy takes longer to import than all of quickstudy

    if not math.isfinite(episode_ci95(values)):
        return math.inf
    episodes = len(values)
    member = _membership(classes)
    shared = member @ member.sum(0)  # [E]: row sums of K
    one, diagonal = float(shared.sum()), float(member.power(2).sum())
    centred = values - values.mean()
    variance = float(centred @ centred) / (episodes - 1)
    if math.isclose(one, diagonal):  # no class occurs twice
        reuse = 0.0
    else:
        # With P = 1 - 11'/E: the traces of PK and of PKPK are what d'Kd is made of.
        trace = diagonal - one / episodes
        square = float((member.T @ member).power(2).sum()) - 2 * float(shared @ shared) / episodes
        square += (one / episodes) ** 2
        left = square - trace**2 / (episodes - 1)
        if left <= 1e-9 * diagonal**2 / episodes:
            return None
        effect = (float(((centred @ member) ** 2).sum()) - variance * trace) / left  # τ²
        reuse = max(0.0, effect) * (one - diagonal) / (episodes * (episodes - 1))
    return float(stdtrit(member.shape[1] - 1, 0.975)) * math.sqrt(variance / episodes + reuse)


def row_effects(moves: Floats, rows: Numbers, episodes: int) -> Floats:
    """By how much each row moves the mean over episodes.

    Args:
        moves: ``[n]``, by how much each asked row moves the figure of its episode; see ``data.source.RowMoves``.
        rows: int64 ``[n]``, which row it is.
        episodes: how many of them have the figure.

    Returns:
        ``[R]``, the derivative of the mean by each row's weight, rows in the order of their numbers.
    """
    _, place = np.unique(rows, return_inverse=True)
    effects: Floats = np.bincount(place, moves) / episodes
    return effects


def row_ci95(effects: Floats) -> float:
    """Half-width of an interval for the mean over a fresh draw of rows, where all episodes ask for the same ones.

    The bootstrap over rows, to first order: a row that is drawn w times counts w times, w being multinomial, so that
    the mean moves by the sum of (w - 1) times the row's effect, whose variance is the sum of their squares (the
    infinitesimal jackknife; B. Efron, "The jackknife, the bootstrap and other resampling plans", 1982). It needs no
    random numbers, and for the area under the ROC curve of one episode it is DeLong's interval.

    Args:
        effects: ``[R]``, from :func:`row_effects`.

    Returns:
        The half-width; infinite for a single row, and where an effect is.
    """
    if len(effects) < 2 or not np.isfinite(effects).all():
        return math.inf
    return Z95 * math.sqrt(len(effects) / (len(effects) - 1) * float(effects @ effects))


def _membership(classes: Numbers) -> csr_array:
    """``[E, C]``: 1 / way where the episode has the class; C counts the classes met with."""
    from scipy.sparse import csr_array

    here = classes >= 0
    way = here.sum(1)
    met, column = np.unique(classes[here], return_inverse=True)
    row = np.repeat(np.arange(len(classes)), way)
    return csr_array((1 / way[row], (row, column)), shape=(len(classes), len(met)))
