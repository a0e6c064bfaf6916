"""Floor 1: random laws by which the rows of a synthetic table come about.

N. Hollmann, S. Müller, K. Eggensperger, F. Hutter, "TabPFN: a transformer that solves small tabular classification
problems in a second", ICLR 2023, has the idea: draw a random structural model, let it make the rows, call some of its
variables columns and one of them the label. The model here is a small one of our own:

    causes z                        normal; for half of the classification tasks, shifted to a centre of the row's class
    h = a(V z), g = a'(U h)         two layers of random sparse weights, each with a random activation
    columns                         sparse mixtures of all variables (z, h, g), with noise, some warped, some pure noise
    score                           one more such mixture, of which the label is made where no class came first

Everything is drawn for all tasks of a call at once, from words of each task alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.keys import Bits, Integers, Key, shuffle, uniform

__all__ = ["VERSION", "TableRows", "draw_tables", "normal"]

Floats: TypeAlias = NDArray[np.float64]

VERSION = 1
"""Of the prior: stands for it in a source's content hash."""

CAUSES, HIDDEN = 10, 16  # most causes, and variables of each layer
VARIABLES = CAUSES + 2 * HIDDEN

# What the words of each stream decide.
_FACTS, _CAUSES, _CENTRES, _LAYER_1, _LAYER_2, _MIX, _NOISE, _COLUMNS, _PLACES = range(9)


@dataclass(frozen=True, eq=False)
class TableRows:
    """Tables of T tasks.

    Args:
        x: ``[T, M, F]``, zero in the columns that a table does not have.
        score: ``[T, M]``, what a label may be made of; deviation about 1.
        clustered: bool ``[T]``, where the classes handed in came first and the score means nothing.
    """

    x: Floats
    score: Floats
    clustered: NDArray[np.bool_]


def draw_tables(key: Key, tasks: Integers, n_row: int, n_column: int, label: Integers | None) -> TableRows:
    """Tables of ``n_row`` rows.

    Args:
        key: of all tables of a source.
        tasks: ``[T]``, their numbers.
        n_row: M.
        n_column: F, the most columns.
        label: ``[T, M]``, the class of each row for the tables in which classes come first; None: in none.
    """
    facts = uniform(key.bits(tasks, 11, _FACTS))
    clustered = (facts[:, 0] < 0.5) & (label is not None)
    few = 1 + np.floor(facts[:, 1] * CAUSES)  # how many causes there are
    causes = _table(key, tasks, _CAUSES, n_row, CAUSES)
    if label is not None:
        apart = _log_uniform(facts[:, 2], 1.0, 5.0)[:, None, None]
        centres = apart * _table(key, tasks, _CENTRES, int(label.max()) + 1, CAUSES)
        causes = causes + clustered[:, None, None] * np.take_along_axis(centres, label[..., None], 1)
    variables = _variables(key, tasks, causes * (np.arange(CAUSES) < few[:, None, None]), facts)
    mix = _table(key, tasks, _MIX, n_column + 1, 2 * VARIABLES)
    # Each mixture has 7 to 69 in 100 of the variables that vary (some are switched off), or the one of the lowest lot.
    lots = np.where(variables.std(1)[:, None] > 1e-6, mix[..., VARIABLES:], np.inf)
    kept = lots <= np.maximum(2 * facts[:, 3, None, None] - 1.5, lots.min(2, keepdims=True))
    made = _standard(variables @ np.where(kept, mix[..., :VARIABLES], 0.0).transpose(0, 2, 1))  # [T, M, F + 1]
    noise = _table(key, tasks, _NOISE, n_row, n_column + 1)
    level = np.repeat(_log_uniform(facts[:, 4:5], 0.01, 0.6), n_column + 1, 1)
    level[:, -1] = _log_uniform(facts[:, 5], 0.01, 0.5)
    made = made + level[:, None] * noise
    x = _columns(key, tasks, made[..., :-1], noise[..., :-1], facts)
    return TableRows(x, made[..., -1], clustered)


def _variables(key: Key, tasks: Integers, causes: Floats, facts: Floats) -> Floats:
    """Causes and two layers on top of them, ``[T, M, VARIABLES]``."""
    layers = [causes]
    for number, stream in enumerate((_LAYER_1, _LAYER_2)):
        fan_in = layers[-1].shape[2]
        drawn = _table(key, tasks, stream, HIDDEN, 2 * fan_in + 1)
        weights = np.where(drawn[..., fan_in : 2 * fan_in] < 0.3, drawn[..., :fan_in], 0.0)
        inner = layers[-1] @ weights.transpose(0, 2, 1) / np.sqrt(0.6 * fan_in) + drawn[:, None, :, -1]
        layers.append(_activate(inner, np.floor(facts[:, 6 + number] * 4)))
    return np.concatenate(layers, 2)


def _columns(key: Key, tasks: Integers, made: Floats, noise: Floats, facts: Floats) -> Floats:
    """Some columns warped, some replaced by noise, and as many kept as the table has; zeros for the others."""
    width = made.shape[2]
    words = uniform(key.bits(tasks, 2 * width, _COLUMNS)).reshape(len(tasks), 2, 1, width)
    kind = words[:, 0] / np.maximum(facts[:, 8, None, None], 1e-9)  # a share of none up to three in ten is warped
    made = np.where(kind < 0.1, np.exp(np.clip(made, -4, 4)), made)
    made = np.where((kind >= 0.1) & (kind < 0.2), np.round(made), made)
    made = np.where((kind >= 0.2) & (kind < 0.3), (made > 0).astype(np.float64), made)
    made = np.where(words[:, 1] < 0.5 * facts[:, 9, None, None] ** 2, noise, made)
    n_column = np.minimum(2, width) + np.floor(facts[:, 10] ** 2.5 * max(width - 1, 0))  # mostly few
    place = np.argsort(shuffle(key.bits(tasks, width, _PLACES), np.full(len(tasks), width)), 1)
    chosen: Floats = np.where((place < n_column[:, None])[:, None], made, 0.0)
    return chosen


def _table(key: Key, tasks: Integers, stream: int, n: int, width: int) -> Floats:
    """Standard normal numbers ``[T, n, width]``; a larger n begins with the rows of a smaller one."""
    each = width + width % 2
    return normal(key.bits(tasks, n * each, stream)).reshape(len(tasks), n, each)[..., :width]


def normal(bits: Bits) -> Floats:
    """As many standard normal numbers as words ``[..., n]``, an even number, by Box and Muller."""
    u = uniform(bits).reshape(*bits.shape[:-1], -1, 2)
    length, angle = np.sqrt(-2 * np.log1p(-u[..., 0])), 2 * np.pi * u[..., 1]
    return np.stack([length * np.cos(angle), length * np.sin(angle)], -1).reshape(bits.shape)


def _log_uniform(u: Floats, low: float, high: float) -> Floats:
    """From ``low`` to ``high``, uniform in the logarithm."""
    scaled: Floats = low * (high / low) ** u
    return scaled


def _standard(values: Floats) -> Floats:
    """Mean 0 and deviation 1 over the rows of each column; constant columns become 0."""
    away = values - values.mean(1, keepdims=True)
    scaled: Floats = away / np.maximum(away.std(1, keepdims=True), 1e-9)
    return scaled


def _activate(values: Floats, kind: Floats) -> Floats:
    """One of four activations for each task."""
    kind = kind[:, None, None]
    choices = [values, np.tanh(values), np.maximum(values, 0), np.abs(values)]
    return np.select([kind == number for number in range(3)], choices[:3], choices[3])
