"""Floor 1: the composition of an episode of Meta-Dataset: which classes, how many examples of each.

Triantafillou et al., "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples", ICLR 2020,
section 3.2 and appendix. With C classes in the split, and n_c examples of class c:

    classes   way ~ U{5 .. min(50, C)}, then so many of all. Of groups (Omniglot): a group, and the same within it. Of a
              graph (ILSVRC): an inner node with 5 to 392 leaves, and all of these; 50 of them where there are more.
    query     the same for each class: min(10, min_c floor(n_c / 2))
    support   beta ~ U(0, 1], in all at most 500: min(500, sum_c ceil(beta min(100, n_c - query)))
    shots     weights n_c exp(alpha_c) with alpha_c ~ U[log 1/2, log 2]; each class one, the rest by weight, rounded
              down; at most the n_c - query that are left

It is written once, against *draws* of two kinds: from a key of ours, so that an episode is a pure function of its
number; or from a ``numpy.random.RandomState``, asked for the same numbers in the same order as in the official
sampler (of 2024), so that its episodes are had again from the same seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.counts import as_setting
from quickstudy.data.metadataset.specs import Group, Spec
from quickstudy.errors import InputError
from quickstudy.keys import Bits, Integers, Key, choose, integers, uniform

__all__ = ["Composition", "Draws", "KeyDraws", "NumpyDraws", "Pool", "Rules", "Sampler", "pool_of"]

_MOST_LEAVES = 392
"""Of a node in the graph of ILSVRC: the least number with which each class can be reached."""


@dataclass(frozen=True)
class Rules:
    """The published constants.

    Args:
        ways: least and most classes of an episode; equal numbers fix the way.
        query: most query examples of a class.
        support: most support examples of an episode.
        contribution: most that one class adds to the size of the support set.
        log_weights: least and most of the logarithm of a class's weight.
        shots: None: as above; a number: so many of each class.
        queries: None: as above; a number: so many of each class.
        hierarchy: whether groups and graphs are followed.
        ignored: in which share of the episodes they are not.
        least: classes with fewer examples are left out.
    """

    ways: tuple[int, int] = (5, 50)
    query: int = 10
    support: int = 500
    contribution: int = 100
    log_weights: tuple[float, float] = (math.log(0.5), math.log(2))
    shots: int | None = None
    queries: int | None = None
    hierarchy: bool = True
    ignored: float = 0.0
    least: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.ways[0] <= self.ways[1]:
            raise InputError(
                f"Cannot draw episodes of {self.ways[0]} to {self.ways[1]} classes: expected at least 2, and no more "
                "than the larger of the two."
            )
        if self.support < self.ways[1] and self.shots is None:
            raise InputError(
                f"Cannot draw episodes of up to {self.ways[1]} classes with {self.support} support examples: each "
                f"class needs one. Allow {self.ways[1]} or more, or fewer classes."
            )
        if min(self.query, self.contribution, self.shots or 1, 1 if self.queries is None else self.queries) < 1:
            raise InputError("Cannot draw episodes without support or query examples of a class: expected at least 1.")
        if not 0 <= self.ignored <= 1:
            raise InputError(f"Cannot ignore groups in {self.ignored} of the episodes: expected a share from 0 to 1.")

    @property
    def settings(self) -> dict[str, Any]:
        """As a recipe says them: a number, or a range; and whatever else is not as published."""
        further = {name: getattr(self, name) for name in ("support", "log_weights", "ignored", "least")}
        return {
            "way": as_setting(self.ways),
            "shot": [1, self.contribution] if self.shots is None else self.shots,
            "query": [1, self.query] if self.queries is None else self.queries,
            "hierarchy": self.hierarchy,
        } | {name: value for name, value in further.items() if value != getattr(Rules, name)}


@dataclass(frozen=True, eq=False)
class Pool:
    """What classes are drawn from; they are numbered from 0 on.

    Args:
        name: of the data set and its split, for errors.
        sizes: int64 ``[C]``, examples of each class.
        groups: of classes, or none.
        spans: for each node of a graph the classes below it, or none.
    """

    name: str
    sizes: Integers
    groups: tuple[Group, ...] = ()
    spans: tuple[tuple[int, ...], ...] = ()


def pool_of(spec: Spec, split: str) -> Pool:
    """One split of a data set.

    Args:
        spec: of the data set.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Raises:
        InputError: the data set has no class in it.
    """
    part = spec.parts[split]
    if not part:
        raise InputError(
            f"Cannot draw episodes from {spec.name}/{split}: it has no class there. {spec.name} is for "
            f"{' and '.join(name for name, numbers in spec.parts.items() if numbers)} alone."
        )
    groups = () if spec.groups is None else spec.groups[split]
    spans = () if spec.spans is None else spec.spans[split]
    return Pool(
        f"{spec.name}/{split}",
        np.array([spec.images[number] for number in part], dtype=np.int64),
        tuple(Group(group.name, group.first - part.start, group.size) for group in groups),
        tuple(tuple(number - part.start for number in span) for span in spans),
    )


@dataclass(frozen=True, eq=False)
class Composition:
    """Of an episode.

    Args:
        classes: int64 ``[way]``, in the order of the labels.
        shots: int64 ``[way]``, support examples of each.
        query: query examples of each.
    """

    classes: Integers
    shots: Integers
    query: int

    def triples(self) -> tuple[tuple[int, int, int], ...]:
        """(class, support, query) for each class, as the official sampler gives them."""
        pairs = zip(self.classes.tolist(), self.shots.tolist(), strict=True)
        return tuple((number, shot, self.query) for number, shot in pairs)


class Draws(Protocol):
    """Random numbers, one question after the other."""

    def share(self, probability: float) -> bool:
        """True with this probability."""

    def one_of(self, n: int) -> int:
        """Of 0 .. n-1."""

    def between(self, low: int, high: int) -> int:
        """Both ends included."""

    def distinct(self, n: int, k: int) -> Integers:
        """K of 0 .. n-1 in random order."""

    def uniform(self) -> float:
        """In [0, 1)."""

    def uniforms(self, low: float, high: float, n: int) -> NDArray[np.float64]:
        """N in [low, high)."""


class KeyDraws:
    """From a key of ours and the number of an episode.

    Args:
        key: of the source.
        number: of the episode.
        most: the largest number of classes of an episode.
    """

    def __init__(self, key: Key, number: int, most: int) -> None:
        self._words = key.bits(np.array([number]), 8 + 5 * most)[0]
        self._place = 0

    def _take(self, n: int) -> Bits:
        self._place += n
        assert self._place <= len(self._words)
        taken: Bits = self._words[self._place - n : self._place]
        return taken

    def share(self, probability: float) -> bool:
        """True with this probability."""
        return bool(uniform(self._take(1))[0] < probability)

    def one_of(self, n: int) -> int:
        """Of 0 .. n-1."""
        return int(integers(self._take(1), n)[0])

    def between(self, low: int, high: int) -> int:
        """Both ends included."""
        return low + self.one_of(high - low + 1)

    def distinct(self, n: int, k: int) -> Integers:
        """K of 0 .. n-1 in random order."""
        chosen: Integers = choose(self._take(2 * k)[None], n, k)[0]
        return chosen

    def uniform(self) -> float:
        """In [0, 1)."""
        return float(uniform(self._take(1))[0])

    def uniforms(self, low: float, high: float, n: int) -> NDArray[np.float64]:
        """N in [low, high)."""
        return low + (high - low) * uniform(self._take(n))


class NumpyDraws:
    """From NumPy's generator of old, whose stream is frozen: bit for bit what the official sampler draws.

    Args:
        state: a generator of its own, such as ``RandomState(seed)``, where ``seed`` is its ``episode_sampling_seed``.
    """

    def __init__(self, state: np.random.RandomState) -> None:
        self._state = state

    def share(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self._state.choice([True, False], p=[probability, 1.0 - probability]))

    def one_of(self, n: int) -> int:
        """Of 0 .. n-1."""
        return int(self._state.choice(n))

    def between(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(self._state.randint(low=low, high=high + 1))

    def distinct(self, n: int, k: int) -> Integers:
        """K of 0 .. n-1 in random order."""
        return self._state.choice(n, k, replace=False).astype(np.int64)

    def uniform(self) -> float:
        """In [0, 1)."""
        return float(self._state.uniform())

    def uniforms(self, low: float, high: float, n: int) -> NDArray[np.float64]:
        """N in [low, high)."""
        return np.asarray(self._state.uniform(low, high, size=(n,)))


@dataclass(frozen=True, eq=False)
class Sampler:
    """Compositions of the episodes of one pool.

    Args:
        pool: what classes are drawn from.
        rules: how.

    Raises:
        InputError: there are too few classes, or too few examples of one.
    """

    pool: Pool
    rules: Rules = Rules()
    _left: Integers = field(init=False, repr=False)
    _spans: tuple[Integers, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pool, rules = self.pool, self.rules
        object.__setattr__(self, "_left", np.flatnonzero(pool.sizes >= rules.least))
        object.__setattr__(self, "_spans", self._eligible())
        fixed = rules.ways[0] == rules.ways[1]
        if (pool.groups or pool.spans) and rules.hierarchy:
            if fixed:
                raise InputError(
                    f"Cannot draw {rules.ways[0]}-way episodes from {pool.name} along its hierarchy, which decides how "
                    "many classes there are. Say hierarchy = false, or give the way as a range."
                )
            self._check_hierarchy()
        if len(self._left) < rules.ways[0]:
            few = f" with {rules.least} examples or more" if rules.least else ""
            raise InputError(
                f"Cannot draw episodes of at least {rules.ways[0]} classes from {pool.name}: it has only "
                f"{len(self._left)}{few}. Use fewer, or another data set."
            )
        self._check_sizes()

    def _eligible(self) -> tuple[Integers, ...]:
        left = set(self._left.tolist())
        spans = (np.array([n for n in span if n in left], dtype=np.int64) for span in self.pool.spans)
        return tuple(span for span in spans if self.rules.ways[0] <= len(span) <= _MOST_LEAVES)

    def _check_hierarchy(self) -> None:
        pool, rules = self.pool, self.rules
        if pool.groups and rules.least:
            raise InputError(
                f"Cannot leave out classes of {pool.name} with fewer than {rules.least} examples: its groups are drawn "
                "whole. Leave least out."
            )
        for group in pool.groups:
            if group.size < rules.ways[0]:
                raise InputError(
                    f"Cannot draw episodes of at least {rules.ways[0]} classes from {pool.name}: its group "
                    f"{group.name} has only {group.size}. Use fewer, or say hierarchy = false."
                )
        if pool.spans and not self._spans:
            raise InputError(
                f"Cannot draw episodes of at least {rules.ways[0]} classes from {pool.name}: no node of its graph has "
                f"{rules.ways[0]} to {_MOST_LEAVES} of them. Use fewer, or say hierarchy = false."
            )

    def _check_sizes(self) -> None:
        pool, rules = self.pool, self.rules
        wanted = (rules.shots or 1) + (rules.queries or 1)
        smallest = int(self._left[pool.sizes[self._left].argmin()])
        if pool.sizes[smallest] < wanted:
            raise InputError(
                f"Cannot draw {wanted} different examples of a class from {pool.name}: its class number {smallest} has "
                f"only {pool.sizes[smallest]}. Ask for fewer, or leave out small classes."
            )

    @property
    def most(self) -> int:
        """The largest number of classes of an episode."""
        rules = self.rules
        most = min(rules.ways[1], len(self._left))
        if rules.hierarchy and rules.ignored == 0:
            if self.pool.groups:
                most = min(most, max(group.size for group in self.pool.groups))
            elif self.pool.spans:
                most = min(most, max(len(span) for span in self._spans))
        return most

    @property
    def largest(self) -> int:
        """The most examples of an episode, support and query together."""
        rules, most = self.rules, self.most
        query = rules.query if rules.queries is None else rules.queries
        support = most * rules.shots if rules.shots is not None else min(rules.support, most * rules.contribution)
        return support + most * query

    def compose(self, draws: Draws) -> Composition:
        """The next episode's composition."""
        classes, rules = self._classes(draws), self.rules
        sizes = self.pool.sizes[classes]
        query = rules.queries if rules.queries is not None else self._query(sizes)
        if rules.shots is not None:
            return Composition(classes, np.full(len(classes), rules.shots), query)
        left = sizes - query
        # floor(beta x + 1) with beta in [0, 1) is ceil(beta x) with beta in (0, 1]: at least one.
        each = np.floor(draws.uniform() * np.minimum(rules.contribution, left) + 1)
        support = min(float(each.sum()), float(rules.support))
        weights = sizes * np.exp(draws.uniforms(*rules.log_weights, len(classes)))
        weights = weights / weights.sum()
        shots = np.floor(weights * (support - len(classes))).astype(np.int64) + 1
        return Composition(classes, np.minimum(shots, left), query)

    def _query(self, sizes: Integers) -> int:
        if self.rules.shots is None:
            return int(min(self.rules.query, (sizes // 2).min()))
        return int(min(self.rules.query, sizes.min() - self.rules.shots))

    def _classes(self, draws: Draws) -> Integers:
        pool, rules = self.pool, self.rules
        if rules.hierarchy and pool.spans and draws.share(1.0 - rules.ignored):
            found = self._spans[draws.one_of(len(self._spans))]
            return found if len(found) <= rules.ways[1] else found[draws.distinct(len(found), rules.ways[1])]
        if rules.hierarchy and pool.groups and draws.share(1.0 - rules.ignored):
            group = pool.groups[draws.one_of(len(pool.groups))]
            way = draws.between(rules.ways[0], min(rules.ways[1], group.size))
            return group.first + draws.distinct(group.size, way)
        if rules.ways[0] == rules.ways[1]:
            way = rules.ways[0]
        else:
            way = draws.between(rules.ways[0], min(rules.ways[1], len(self._left)))
        return self._left[draws.distinct(len(self._left), way)]

    def number(self, key: Key, index: int) -> Composition:
        """The composition of the episode with this number, a pure function of the key and the number."""
        return self.compose(KeyDraws(key, index, self.rules.ways[1]))
