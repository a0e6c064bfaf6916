"""Floor 1: what a learner was trained on, so that it is not tested on it by mistake.

training    Origin of its tasks -> kept with the run -> Seen, on the learner that is loaded
test        Seen.check(tasks), by names and by the examples themselves, which a folder that was moved takes along
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.corpus import alike
from quickstudy.data.source import Origin, Place, TaskShape, TaskSource
from quickstudy.errors import InputError

__all__ = ["Seen", "Used"]

_SHOWN = 5
"""How many classes an error names."""


@dataclass(frozen=True, eq=False)
class Used:
    """What a training used in one way.

    Args:
        names: of classes or groups.
        examples: uint64 ``[n]``, digests of examples, as of :class:`Origin`.
    """

    names: frozenset[str] = frozenset()
    examples: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of a training by those who test what came of it.

    Args:
        run: how errors call it.
        shape: of its tasks.
        place: of :class:`Origin`.
        used: ``"trained"`` and ``"validated"`` -> what it used so; the latter where it chose the checkpoint.
        numbering: of :class:`Origin`.
    """

    run: str
    shape: TaskShape
    place: Place
    used: Mapping[str, Used]
    numbering: str | None = None

    def check(self, source: TaskSource) -> None:
        """Whether these tasks are a test of the learner: new to it, and made of what its network reads.

        Tasks of the split ``"train"`` say themselves that they are none, and may be looked at.

        Raises:
            InputError: their classes or examples were trained or validated on, their examples have another shape, or
                words have other numbers.
        """
        # Where a data set is divided in several ways, as in "vinyals/test", the role comes last.
        origin, split = source.origin, str(source.settings.get("split", "")).rpartition("/")[2]
        if origin is not None:
            self.check_names(origin, split)
            self._check_numbering(origin)
        self._check_shape(source.shape)
        if origin is not None:
            self._check_examples(origin, split)

    def check_names(self, origin: Origin, split: str) -> None:
        """Whether names of classes are new to it, where those of the same place are the same classes.

        So are those of published data sets that one is made of: ``"glyphs/A"`` there, and ``"A"`` of ``glyphs``.

        A folder of one's own may have got more classes since, and is then divided otherwise. Classes that the run was
        validated on chose its checkpoint: they may be validated on again, but are no test.

        Args:
            origin: of the tasks.
            split: what they are for, ``"test"`` or ``"validation"``.

        Raises:
            InputError: some of them are not.
        """
        same = alike if self.place[0] == "texts" else str  # people write labels of texts as they like
        for how, used in self._against(split):
            if origin.place == self.place:
                names = set(map(same, used.names))
                seen = sorted(name for name in origin.names if same(name) in names)
            else:
                seen = self._seen_across(origin, used)
            if seen:
                raise InputError(
                    f"Cannot test {self.run} on {_some(seen)}: it was {how} on them (split.json). The data was divided "
                    "otherwise then, with fewer classes or another split, or is another file with such labels; train "
                    "anew, or leave them out."
                )

    def _seen_across(self, origin: Origin, used: Used) -> list[str]:
        """Of two published data sets, of which one may be made of others: its names begin with theirs."""
        (there, folder), (here, own) = origin.place, self.place
        if folder is not None or own is not None:
            return []
        whole = {f"{here}/{name}" for name in used.names}
        return sorted(name for name in origin.names if name in whole or f"{there}/{name}" in used.names)

    def _check_examples(self, origin: Origin, split: str) -> None:
        """By the examples themselves, whatever their class and their folder are called now.

        Published data stays as it is: where it shows the same under two names, names tell.
        """
        if origin.place == self.place == (self.place[0], None):
            return
        for how, used in self._against(split):
            among = {name: int(np.isin(mine, used.examples).sum()) for name, mine in origin.examples.items()}
            seen = sorted(name for name, count in among.items() if count)
            if seen:
                count, size = among[seen[0]], len(origin.examples[seen[0]])
                raise InputError(
                    f"Cannot test {self.run} on {_some(seen)}: it was {how} on the same examples ({count} of {size} of "
                    f"{seen[0]!r}), wherever they lay and whatever their class was called then. Leave them out, or "
                    "train anew without them."
                )

    def _against(self, split: str) -> Iterable[tuple[str, Used]]:
        if split.startswith("train"):
            return ()
        return [(how, used) for how, used in self.used.items() if (how, split) != ("validated", "validation")]

    def _check_numbering(self, origin: Origin) -> None:
        """A vocabulary is counted in training texts: that of another file numbers the same words otherwise."""
        if None not in (origin.numbering, self.numbering) and origin.numbering != self.numbering:
            raise InputError(
                f"Cannot test {self.run} on these texts: their words have other numbers than those it was trained "
                "with. A vocabulary is counted in training texts, so keep these as they were and name what is tested "
                "beside them: --data.test FILE; where a pretrained tokenizer was trained with, give it here, too: "
                "--data.tokenizer."
            )

    def _check_shape(self, shape: TaskShape) -> None:
        if (_read(self.shape), self.shape.target) != (_read(shape), shape.target):
            texts = isinstance(shape.example, dict) and "input_ids" in shape.example
            pictures = "--data.size and --data.channels of pictures, --data.rate and --data.seconds of sounds"
            options = "--data.length" if texts else pictures
            raise InputError(
                f"Cannot test {self.run} on these tasks: it was trained on {self.shape.target} of examples of shape "
                f"{_said(self.shape)}, and theirs is {_said(shape)} ({shape.target}). Give the data the options that "
                f"make them alike, such as {options}, or train on such data."
            )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _read(shape: TaskShape) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    """What a network reads of an example: not the letters of a text, which are as many as the longest has."""
    if isinstance(shape.example, dict):
        return {name: size for name, size in shape.example.items() if name != "text"}
    return shape.example


def _said(shape: TaskShape) -> str:
    if isinstance(shape.example, dict):
        return ", ".join(f"{name} {list(size)}" for name, size in shape.example.items())
    return str(list(shape.example))
