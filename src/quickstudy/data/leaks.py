"""Floor 1: whether the tasks of one role share classes or examples with those of another one, whatever they say.

    leaks({"train": source, "validation": source, "test": source}) -> sentences; none where nothing is shared

Classes are compared by name, and examples by what they hold, so that the same picture under another name is found;
where pictures are turned in training, a picture that equals another one turned is found, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.metadataset.episodes import MetaDatasetTasks
from quickstudy.data.rowstore import Rows, RowStore
from quickstudy.data.source import TaskSource
from quickstudy.episode import Episode, Examples
from quickstudy.keys import Integers

__all__ = ["Held", "are_turned", "drawn_digests", "held", "leaks", "stored_digests"]

Array: TypeAlias = NDArray[Any]
Digests: TypeAlias = dict[bytes, str]
"""Digest of an example -> where it stands."""

_CHUNK = 4096
_DRAWN = 100  # tasks of sources that have no store, such as functions


@dataclass(frozen=True)
class Held:
    """What tasks are made of.

    Args:
        names: of classes.
        examples: digest -> where the example stands.
    """

    names: frozenset[str]
    examples: Digests


def leaks(sources: Mapping[str, TaskSource]) -> list[str]:
    """What two roles share, a sentence each.

    Args:
        sources: role -> its tasks; no role may be a part of another one, as validation is of train+validation.
    """
    found = []
    turned = are_turned(*sources.values())
    all_held = {role: held(source, turned) for role, source in sources.items()}
    for a, b in combinations(sources, 2):
        one, other = all_held[a], all_held[b]
        both = sorted(one.names & other.names)
        if both:
            found.append(f"{a} and {b} share {len(both)} classes, such as {both[0]!r}.")
        same = sorted((one.examples[digest], other.examples[digest]) for digest in one.examples.keys() & other.examples)
        if same:
            also = " (perhaps turned)" if turned else ""
            found.append(f"{a} and {b} share {len(same)} examples{also}, such as {same[0][0]} and {same[0][1]}.")
    return found


def are_turned(*sources: TaskSource) -> bool:
    """Whether any of them turns pictures, so that a picture has to be told in each of its turns."""
    return any(source.settings.get("rotations", "none") != "none" for source in sources)


def held(source: TaskSource, turned: bool = False, *, thorough: bool = True) -> Held:
    """The classes and examples that tasks of a source may hold.

    Args:
        source: of the tasks.
        turned: the same digest for a picture in each of its four turns, where there is a store.
        thorough: read what is not in memory, and draw tasks of a source that has neither a store nor an origin; else
            of these names alone are told, or nothing.
    """
    if isinstance(source, ClassTasks):
        names = frozenset(source.store.classes[number] for number in source.numbers)
        known = thorough or source.store.known
        return Held(names, stored_digests(source.store, source.numbers, turned) if known else {})
    found: Digests = {}
    if isinstance(source, MetaDatasetTasks):
        for member in source.members:
            if thorough or member.store.known:
                found |= stored_digests(member.store, member.classes, turned)
        return Held(frozenset(source.origin.names), found)
    if source.origin is not None:
        for name, digests in source.origin.examples.items():
            found |= {int(one).to_bytes(8, "big"): f"an example of {name!r}" for one in digests}
    if thorough and not found:
        found = drawn_digests(source.episodes(range(source.at_most(_DRAWN))), turned)
    return Held(frozenset(() if source.origin is None else source.origin.names), found)


def stored_digests(store: RowStore, numbers: Integers, turned: bool = False) -> Digests:
    """Of every example that tasks may be drawn from; nothing of pictures of one value, which are alike anyway.

    Args:
        store: of the examples.
        numbers: int64 ``[C]``, which of its classes.
        turned: the same digest for a picture in each of its four turns.
    """
    found: Digests = {}
    look_up = store.look_up()
    for number in numbers.tolist():
        rows = np.arange(store.starts[number], store.starts[number + 1])
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            for place, digest in enumerate(_of_rows(look_up(some), turned), start):
                if digest:
                    found[digest] = f"example {place} of {store.classes[number]!r}"
    return found


def _of_rows(rows: Rows | Mapping[str, Rows], turned: bool) -> Iterator[bytes]:
    leaves = list(rows.values()) if isinstance(rows, Mapping) else [rows]
    for place in range(len(leaves[0])):
        yield _digest([np.asarray(leaf[place]) for leaf in leaves], turned)


def drawn_digests(episode: Episode, turned: bool = False) -> Digests:
    """Of the examples of some tasks, labels included where they are numbers to be predicted."""
    found: Digests = {}
    for part in (episode.support, episode.query):
        for task, row in zip(*(place.tolist() for place in part.real.nonzero(as_tuple=True)), strict=True):
            digest = _digest(_leaves(part, task, row), turned)
            if digest:
                found[digest] = f"a row of task {int(episode.indices[task])}"
    return found


def _leaves(part: Examples, task: int, row: int) -> list[Array]:
    leaves = list(part.x.values()) if isinstance(part.x, dict) else [part.x]
    if part.y is not None and part.y.is_floating_point():
        leaves.append(part.y)
    return [leaf[task, row].numpy() for leaf in leaves]


def _digest(example: list[Array], turned: bool) -> bytes:
    """Of all parts of an example; the least of a picture's four turns; nothing of a picture of one value."""
    picture = len(example) == 1 and example[0].ndim >= 2
    if picture and example[0].min() == example[0].max():
        return b""
    if picture and turned:
        return min(_of_bytes([np.rot90(example[0], quarter, axes=(-2, -1))]) for quarter in range(4))
    return _of_bytes(example)


def _of_bytes(parts: list[Array]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.digest()
