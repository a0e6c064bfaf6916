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
from dataclasses import field
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

__all__ = ["ECE", "WORST_OF_EACH", "Figure", "Robustness", "robustness_section"]

SCHEMA = 1
ECE, WORST_OF_EACH = "ECE", "worst class of each task"
"""Names of figures that each row of a leaderboard has."""
_OF_THE_TEST = ("unchanged", "worst class")  # kinds of figures that every test gives
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
        episodes: of the unchanged tasks.
        seconds: how long it took.
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
        lines += [f"  {one.name:<{wide}}  {one.metric} {one}" for one in self.figures]
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

    @property
    def reasons(self) -> dict[str, str]:
        """What was not asked -> why, in the words of the first where reasons differ in numbers alone."""
        alike: dict[str, list[str]] = {}
        for name, why in self.not_asked.items():
            alike.setdefault(re.sub(r"\d+", "#", why), []).append(name)
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
        rows.append((f"{name} ({_SHOWN.get(metric, metric)})", *("" if c is None else str(c) for c in cells)))
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
            "Figures with 95 % intervals in brackets; then the difference to the unchanged tasks, episode by episode, "
            "where the tasks are the same.",
            *_not_asked(found),
        ),
        drawings=draw_curves(curves, list(found)) if curves else (),
        head=("", *found),
        rows=rows,
    )


def _not_asked(found: Mapping[str, Robustness]) -> list[str]:
    """What was not asked, once for all learners of whom it was not for the same reason."""
    learners: dict[tuple[str, str], list[str]] = {}
    for name, each in found.items():
        for reason in each.reasons.items():
            learners.setdefault(reason, []).append(name)
    whom = {
        reason: "any" if len(found) > 1 and names == list(found) else ", ".join(names)
        for reason, names in learners.items()
    }
    return [f"Not asked of {whom[what, why]}: {what}. {why}" for what, why in learners]


_SHOWN = {"accuracy": "%", "ece": "%", "auroc": "AUROC"}
