"""Floor 6: rows, tables and the board: what is shown, and how it is ranked.

Rows of a table are ranked, inductive and transductive ones apart; papers' figures stand beside them and are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from quickstudy.data.counts import Count
from quickstudy.evaluate import Result
from quickstudy.evaluate.comparison import cell_name
from quickstudy.evaluate.intervals import episode_ci95
from quickstudy.evaluate.robustness import ECE, WORST_OF_EACH, Figure, Robustness
from quickstudy.evaluate.wording import count, data_name, metric_name
from quickstudy.leaderboard.entry import Entry
from quickstudy.leaderboard.published import Published, is_of_claim
from quickstudy.leaderboard.significance import Pair, groups, pairs, tasks_of

__all__ = ["Board", "Row", "Sort", "Table", "by_figure", "size_of"]

Sort: TypeAlias = Literal["figure", "cost", "energy", "name", "date"]


@dataclass(frozen=True, eq=False)
class Row:
    """What was measured of one learner on one task, over one or several seeds of its training.

    Args:
        entries: one a seed, by seed.
    """

    entries: tuple[Entry, ...]

    @property
    def first(self) -> Entry:
        """The first seed's."""
        return self.entries[0]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.first.about.row

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the training, where it is known."""
        return tuple(one.about.seed for one in self.entries if one.about.seed is not None)

    @cached_property
    def result(self) -> Result:
        """The figures; of several seeds each episode's mean over them."""
        found = self.first.result
        if len(self.entries) == 1:
            return found
        values = np.array([one.result.per_episode for one in self.entries]).mean(0)
        with np.errstate(over="ignore"):
            mean = float(values.mean())
        return replace(
            found,
            mean=mean,
            ci95=episode_ci95(values),
            ci95_classes=None,
            ci95_rows=None,
            median=float(np.median(values)),
            diverged=max(one.result.diverged for one in self.entries),
            mean_converged=None,
            ci95_converged=None,
            per_episode=tuple(values.tolist()),
            others={},
        )

    @cached_property
    def ci95_seeds(self) -> float | None:
        """Half-width of Student's interval over seeds; None for one seed."""
        if len(self.entries) < 2:
            return None
        from scipy import stats

        means = np.array([one.result.mean for one in self.entries])
        if not np.isfinite(means).all():
            return math.inf
        return float(stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means)))

    @property
    def cost(self) -> float | None:
        """Seconds of training a seed; None where nobody told, or nothing was trained."""
        return _mean([one.about.train_seconds for one in self.entries])

    @property
    def watt_hours(self) -> float | None:
        """Energy of the training a seed, an estimate."""
        return _mean([None if one.about.energy is None else one.about.energy.watt_hours for one in self.entries])

    @property
    def robustness(self) -> Robustness | None:
        """Of the first seed that was asked for more than each test says of itself."""
        found = (one.about.robustness for one in self.entries)
        return next((one for one in found if one is not None and one.is_whole), None)

    @property
    def worst_class(self) -> float | None:
        """Accuracy on the class of each task that was answered worst, a mean over seeds; None where nobody counted.

        Of seeds that were asked on as many episodes as their result has, where there are some.
        """
        return self._said(WORST_OF_EACH)

    @property
    def calibration(self) -> float | None:
        """Expected calibration error, likewise."""
        return self._said(ECE)

    @property
    def asked(self) -> int | None:
        """Of how many episodes a seed these two are."""
        return min((figure.episodes for figure in self._figures(WORST_OF_EACH)), default=None)

    def _said(self, name: str) -> float | None:
        figures = self._figures(name)
        return sum(one.value for one in figures) / len(figures) if figures else None

    def _figures(self, name: str) -> list[Figure]:
        robust = (one.about.robustness for one in self.entries)
        figures = [figure for one in robust if one is not None and (figure := one.by_name(name)) is not None]
        if len(figures) < len(self.entries):
            return []
        return [one for one in figures if one.episodes == self.result.episodes] or figures

    @cached_property
    def percentile(self) -> float:
        """One episode in twenty is worse: the 5th percentile of episodes, the 95th of an error; a mean over seeds."""
        share = 0.95 if self.result.smaller_is_better else 0.05
        found = [np.array(one.result.per_episode) for one in self.entries]
        # Between two episodes, as figures of robustness take it; errors may be infinite, and nothing is between those.
        finite = all(np.isfinite(values).all() for values in found)
        method: Any = "linear" if finite else "inverted_cdf"
        return float(np.mean([np.quantile(values, share, method=method) for values in found]))

    @property
    def cut(self) -> str:
        """Where training was cut short, in words; empty where it was not."""
        about = self.first.about
        if about.step is None or about.steps is None or about.step >= about.steps:
            return ""
        return f"cut short after {count(about.step)} of {count(about.steps)} steps"

    @property
    def checked(self) -> bool:
        """Whether each seed's checkpoint was tested again."""
        return all(one.about.checked is not None for one in self.entries)

    @property
    def marks(self) -> tuple[str, ...]:
        """What must stand beside it, but for the setting, by which rows are ranked apart."""
        result, found = self.result, []
        if result.balanced_prior:
            found.append("balanced prior")
        if result.diverged:
            found.append(f"{count(result.diverged)} of {count(result.episodes)} diverged")
        if self.cut:
            found.append(self.cut)
        if not is_of_claim(self.first.about):
            found.append("not the claim's protocol any more")
        if self.first.about.baseline:
            found.append("baseline")
        # What the test changed of the learner; changes of the data make another table.
        changed = self.first.about.overrides.items()
        found += [f"{name} {value}" for name, value in changed if not name.startswith("data.")]
        if self.checked:
            found.append("checked")
        return tuple(found)

    @property
    def date(self) -> str:
        """The day of the newest; empty where nobody told."""
        return max(one.about.made or "" for one in self.entries)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if len(there) == len(values) else None


@dataclass(frozen=True, eq=False)
class Table:
    """One task.

    Args:
        rows: what was measured, the best first; transductive rows behind the others.
        published: what papers print of it.
        settings: what tells it from other tables of the same name, such as ``{"rotations": "none"}``.
    """

    rows: tuple[Row, ...]
    published: tuple[Published, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def _one(self) -> Result | Published:
        return self.rows[0].result if self.rows else self.published[0]

    @property
    def metric(self) -> str:
        """Of its figures."""
        return self._one.metric

    @property
    def data(self) -> str:
        """The data set."""
        one = self._one
        return str(one.data["name"]) if isinstance(one, Published) else one.data

    @property
    def split(self) -> str:
        """Of the data set."""
        return self._one.split

    @property
    def sizes(self) -> str:
        """Such as ``"5-way 1-shot"``."""
        one = self._one
        if isinstance(one, Published):
            parts = [(one.way, "way"), (one.shot, "shot")]
            return " ".join(f"{number}-{what}" for number, what in parts if number is not None)
        return cell_name(one)

    @property
    def title(self) -> str:
        """The task and the metric, in words."""
        # Parts of a data set that is made of several stand with its name, also where no other table has it.
        told = {name: value for name, value in self.settings.items() if name != "data-sets"}
        more = "".join(f", {name.replace('_', ' ')} {value}" for name, value in told.items())
        data = data_name(self.rows[0].result) if self.rows else self.data
        return f"{data}, {self.split}, {self.sizes}{more}: {metric_name(self.metric)}"

    @cached_property
    def pairs(self) -> list[Pair]:
        """All rows that saw the same episodes, compared."""
        return pairs([row.result for row in self.rows])

    @cached_property
    def letters(self) -> list[str]:
        """Of each row; see :func:`quickstudy.leaderboard.significance.groups`."""
        return groups(len(self.rows), self.pairs)

    @cached_property
    def tasks(self) -> list[int]:
        """Which rows saw the same episodes: a number for each row, from 1 on."""
        kinds = [tasks_of(row.result) for row in self.rows]
        numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds), 1)}
        return [numbers[kind] for kind in kinds]

    @property
    def ranks(self) -> list[int]:
        """Of each row among those of its setting, inductive or transductive, by its figure; from 1 on."""
        order = sorted(range(len(self.rows)), key=lambda place: by_figure(self.rows[place]))
        found, used = [0] * len(self.rows), {False: 0, True: 0}
        for place in order:
            setting = self.rows[place].result.transductive
            used[setting] += 1
            found[place] = used[setting]
        return found

    def sorted_by(self, how: Sort) -> Table:
        """The same with its rows in another order; ranks stay those of the figures."""
        keys: dict[str, Callable[[Row], Any]] = {
            "figure": by_figure,
            "cost": lambda row: (row.cost is None, row.cost or 0.0),
            "energy": lambda row: (row.watt_hours is None, row.watt_hours or 0.0),
            "name": lambda row: row.name.lower(),
            "date": lambda row: tuple(-ord(letter) for letter in row.date) or (1,),
        }
        rows = sorted(self.rows, key=lambda row: (row.result.transductive, keys[how](row)))
        return replace(self, rows=tuple(rows))


def by_figure(row: Row) -> tuple[bool, float, str]:
    """A key that sorts rows: the best first, transductive ones behind the others."""
    result = row.result
    return result.transductive, result.mean if result.smaller_is_better else -result.mean, row.name


@dataclass(frozen=True, eq=False)
class Board:
    """All tables.

    Args:
        tables: by data set, metric, split, way and shot; those that hold papers' figures alone are the last.
        passed_over: files that are no rows, and why.
    """

    tables: tuple[Table, ...]
    passed_over: tuple[str, ...] = ()

    def only(
        self,
        *,
        data: str | None = None,
        way: int | None = None,
        shot: int | None = None,
        learner: str | None = None,
        transductive: bool | None = None,
    ) -> Board:
        """What is left of it. Pairs are corrected for what is left.

        Args:
            data: name of the data set.
            way: classes a task.
            shot: support examples a class.
            learner: part of a row's name.
            transductive: only such rows, or only others.
        """

        def fits(one: Result | Published) -> bool:
            name = one.data["name"] if isinstance(one, Published) else one.data
            sizes = (data in (None, name)) and way in (None, one.way) and shot in (None, one.shot)
            return sizes and transductive in (None, one.transductive)

        def named(name: str) -> bool:
            return learner is None or learner.lower() in name.lower()

        found = []
        for table in self.tables:
            rows = tuple(row for row in table.rows if fits(row.result) and named(row.name))
            papers = tuple(one for one in table.published if fits(one) and named(f"{one.learner} {one.title}"))
            if rows or papers:
                found.append(replace(table, rows=rows, published=papers))
        return replace(self, tables=tuple(found))


def size_of(count: Count | None) -> str:
    """A way or a shot, in words; empty where tasks have none.

    >>> size_of(5), size_of((5, 20))
    ('5', '5..20')
    """
    if count is None:
        return ""
    return str(count) if isinstance(count, int) else "..".join(map(str, count))
