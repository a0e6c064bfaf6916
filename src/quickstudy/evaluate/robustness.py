"""Floor 4: figures beside accuracy that say where a learner fails, as values, as a file and as a part of a page.

    Figure                one of them
    Robustness            all of them, of one learner
    robustness_section    learners side by side

How they are computed stands in ``answered.py``, which tasks are asked for each in ``stressing.py``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from quickstudy.evaluate.figures import Curve, draw_curves
from quickstudy.evaluate.jsonfile import contents_of, parsed
from quickstudy.evaluate.report import Section
from quickstudy.evaluate.result import Result
from quickstudy.evaluate.wording import count, number
from quickstudy.files import atomic_write_bytes

__all__ = ["ECE", "WORST", "WORST_OF_EACH", "Figure", "Robustness", "robustness_section"]

SCHEMA = 1
ECE, WORST_OF_EACH = "ECE", "worst class of each task"
"""Names of figures that each row of a leaderboard has."""
WORST = "the worst class"
"""What is not asked where no class can be called the worst."""
_WORST_CLASS = "worst class"
_OF_THE_TEST = ("unchanged", _WORST_CLASS)  # kinds of figures that every test gives
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", ser_json_inf_nan="strings"))
class Figure:
    """One figure of one learner.

    Args:
        kind: what it belongs to, such as ``"label noise"``.
        name: what people read, such as ``"20 % wrong labels"``.
        metric: of ``quickstudy.metrics``.
        value: the figure, from 0 to 1 like the ends of its interval.
        low: where its 95 % interval begins.
        high: where it ends.
        episodes: how many it is of.
        at: the rate, the angle, the shots or the ways; None where there is no such number.
        difference: mean of this minus the unchanged one over the same episodes, with the half-width of its 95 %
            interval; None where it is not compared.
    """

    kind: str
    name: str
    metric: str
    value: Share
    low: Share
    high: Share
    episodes: int
    at: float | None = None
    difference: tuple[float, float] | None = None

    @staticmethod
    def of(kind: str, name: str, metric: str, interval: tuple[float, float, float], episodes: int) -> Figure:
        """With the figure and the ends of its interval in one."""
        value, low, high = interval
        return Figure(kind=kind, name=name, metric=metric, value=value, low=low, high=high, episodes=episodes)

    def __str__(self) -> str:
        """As in "41.0 (39.5 to 42.4), −5.2 ± 0.9"."""
        low, high = number(self.low, self.metric), number(self.high, self.metric)
        said = f"{number(self.value, self.metric)} ({low} to {high})"
        if self.difference is None:
            return said
        mean, half = self.difference
        return f"{said}, {number(mean, self.metric, sign=True)} ± {number(half, self.metric)}"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", ser_json_inf_nan="strings"))
class Robustness:
    """All figures of one learner.

    Args:
        learner: its name.
        source: settings of the unchanged tasks.
        source_hash: digest of what they are drawn from.
        recipe_hash: digest of the recipe that it was trained by.
        checkpoint: which one.
        transductive: predictions depend on the other queries.
        episodes: of the unchanged tasks; what is changed may have been asked of the first of them alone, as each figure
            says.
        seconds: how long it took, the test of the unchanged tasks included.
        figures: in the order in which they were measured.
        not_asked: what could not be measured -> why.
        weights_sha256: digest of the checkpoint's weights, as it grows while it is trained on; None where nobody told.
        schema: version of this layout.
    """

    learner: str
    source: dict[str, Any]
    source_hash: str
    recipe_hash: str
    checkpoint: str
    transductive: bool
    episodes: int
    seconds: float
    figures: tuple[Figure, ...] = field(repr=False)
    not_asked: dict[str, str] = field(default_factory=dict)
    weights_sha256: str | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"this version of quickstudy reads figures of schema {SCHEMA}, found {self.schema}")

    def __str__(self) -> str:
        """Plain text for the terminal, a line a figure."""
        wide = max((len(one.name) for one in self.figures), default=0)
        lines = [f"Robustness of {self.learner}, {count(self.episodes)} episodes; in brackets 95 % intervals"]
        for one in self.figures:
            of = "" if one.episodes == self.episodes else f" ({count(one.episodes)} episodes)"
            lines.append(f"  {one.name:<{wide}}  {one.metric} {one}{of}")
        lines += [f"  {names}: not asked. {why}" for names, why in self.reasons.items()]
        return "\n".join(lines)

    def stands_beside(self, result: Result) -> bool:
        """Whether it is of the same recipe, checkpoint and unchanged tasks, of the same sizes, as a result."""
        names = ("recipe_hash", "checkpoint", "source_hash", "transductive")
        tasks, others = (json.dumps(one.source, sort_keys=True) for one in (self, result))
        return tasks == others and all(getattr(self, name) == getattr(result, name) for name in names)

    def is_of(self, weights_sha256: str | None) -> bool:
        """Whether it is of these weights, as far as is known."""
        return None in (self.weights_sha256, weights_sha256) or self.weights_sha256 == weights_sha256

    @property
    def is_whole(self) -> bool:
        """Whether more was asked than every test says of itself."""
        return bool(self.not_asked) or any(one.kind not in _OF_THE_TEST for one in self.figures)

    def says_more_than(self, other: Robustness | None) -> bool:
        """Whether it may stand in place of other figures of the same test: of no fewer episodes, and of more else."""
        if other is None:
            return True
        mine, theirs = ((each.is_whole, sum(one.episodes for one in each.figures)) for each in (self, other))
        return self.episodes >= other.episodes and mine > theirs

    def beside_test(self, alone: Robustness) -> Robustness:
        """These figures, with what another test of the same tasks said of itself in place of what theirs did."""
        kinds = {one.kind for one in alone.figures}
        rest = (one for one in self.figures if one.kind not in kinds)
        asked = {WORST} if _WORST_CLASS in kinds else set[str]()
        return replace(
            alone,
            figures=(*alone.figures, *rest),
            not_asked={name: why for name, why in self.not_asked.items() if name not in asked},
            seconds=alone.seconds + self.seconds,
        )

    @property
    def reasons(self) -> dict[str, str]:
        """What was not asked -> why, in the words of the first where reasons differ in numbers alone."""
        alike: dict[str, list[str]] = {}
        for name, why in self.not_asked.items():
            alike.setdefault(_but_for_numbers(why), []).append(name)
        return {", ".join(names): self.not_asked[names[0]] for names in alike.values()}

    @property
    def id(self) -> str:
        """12 hex digits that stand for what was measured, not for what came out."""
        names = ("learner", "source", "source_hash", "recipe_hash", "checkpoint", "episodes")
        settings = json.dumps({name: getattr(self, name) for name in names}, sort_keys=True)
        return hashlib.sha256(settings.encode()).hexdigest()[:12]

    def by_name(self, name: str) -> Figure | None:
        """The figure that people read under this name."""
        return next((one for one in self.figures if one.name == name), None)

    def to_json(self) -> str:
        """One JSON object, indented."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    def save(self, path: Path) -> None:
        """Write the file whole or not at all, folders included.

        Raises:
            StorageError: the disk refused; what was there before is unchanged.
        """
        atomic_write_bytes(path, self.to_json().encode())

    @staticmethod
    def load(path: Path) -> Robustness:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing, cut off or something else.
        """
        return Robustness.from_json(contents_of(path, "the robustness figures"), str(path))

    @staticmethod
    def from_json(text: str | bytes, name: str = "this text") -> Robustness:
        """The figures that :meth:`to_json` wrote.

        Args:
            text: the JSON.
            name: what the error calls it, such as its path.

        Raises:
            DataError: it is cut off or something else.
        """
        return parsed(_ADAPTER, text, name, "robustness figures", "run `quickstudy evaluate RUN --robustness` again.")


_ADAPTER = TypeAdapter(Robustness)


# --- as a part of a page ------------------------------------------------------------------------


def robustness_section(found: Mapping[str, Robustness], title: str = "Robustness") -> Section:
    """A table of all figures, learners side by side, and curves over shots and ways.

    Args:
        found: what the page calls a learner -> its figures.
        title: of the part.
    """
    names = list(dict.fromkeys(one.name for each in found.values() for one in each.figures))
    kinds = {one.name: one.kind for each in found.values() for one in each.figures}
    rows = []
    for name in sorted(names, key=lambda name: list(dict.fromkeys(kinds.values())).index(kinds[name])):
        cells = [each.by_name(name) for each in found.values()]
        metric = next(cell.metric for cell in cells if cell is not None)
        numbers = [cell.episodes for cell in cells if cell is not None]
        said = "\u00a0to\u00a0".join(count(one) for one in dict.fromkeys((min(numbers), max(numbers))))
        rows.append(
            (
                f"{name} ({_SHOWN.get(metric, metric)}), n\u00a0=\u00a0{said}",
                *("" if c is None else str(c) for c in cells),
            )
        )
    curves = [
        Curve(
            learner,
            f"{along} accuracy",
            [float(one.at or 0) for one in of],
            [one.value for one in of],
            [(one.high - one.low) / 2 for one in of],
            along=along,
        )
        for learner, each in found.items()
        for along in ("shots", "ways")
        if (of := [one for one in each.figures if one.kind == along])
    ]
    return Section(
        title,
        text=(
            "Figures of n episodes, in brackets 95 % intervals over episodes of these classes, or rows; then, where "
            "the tasks are the same, the difference to the same episodes unchanged, one by one.",
            *_not_asked(found),
        ),
        drawings=draw_curves(curves, list(found)) if curves else (),
        head=("", *found),
        rows=rows,
    )


def _not_asked(found: Mapping[str, Robustness]) -> list[str]:
    """What was not asked, once for all learners of whom it was not for the same reason, but for numbers in it."""
    learners: dict[tuple[str, str], list[str]] = {}
    words: dict[tuple[str, str], str] = {}
    for name, each in found.items():
        for what, why in each.reasons.items():
            alike = what, _but_for_numbers(why)
            learners.setdefault(alike, []).append(name)
            words.setdefault(alike, f"{what}. {why}")
    everybody = list(found) if len(found) > 1 else None
    return [
        f"Not asked of {'any' if names == everybody else ', '.join(names)}: {words[alike]}"
        for alike, names in learners.items()
    ]


def _but_for_numbers(why: str) -> str:
    return re.sub(r"\d+", "#", why)


_SHOWN = {"accuracy": "%", "ece": "%", "auroc": "AUROC"}
