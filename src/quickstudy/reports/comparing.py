"""Floor 6: runs beside each other: what differs in their recipes, and in their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quickstudy.errors import InputError
from quickstudy.evaluate import Paired, Result, paired
from quickstudy.evaluate.wording import count, figure, marks, number
from quickstudy.metrics import metric
from quickstudy.recipes import Recipe
from quickstudy.reporting import by_column
from quickstudy.runlist import RunSummary, summary
from quickstudy.runs import open_run, recipe_of, results_of
from quickstudy.train import RunFolder

__all__ = ["Pair", "RunsCompared", "Tested", "compare_runs", "differences"]


@dataclass(frozen=True)
class Pair:
    """The first run's result beside another one's.

    Args:
        other: the place of the other run.
        difference: first - other over the episodes that both saw; None where they cannot be paired.
        why_not: why they cannot, a sentence.
    """

    other: int
    difference: Paired | None
    why_not: str = ""


@dataclass(frozen=True)
class Tested:
    """One kind of test, such as ``"5-way 1-shot"``.

    Args:
        column: its name.
        results: of each run the last one; None of a run that was not tested so.
        pairs: the first run that was tested so, beside each later one.
    """

    column: str
    results: tuple[Result | None, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class RunsCompared:
    """Runs beside each other.

    Args:
        runs: how far each came.
        recipes: dotted key -> what each run's recipe says, of the keys in which they differ.
        tests: a kind of test each.
    """

    runs: tuple[RunSummary, ...]
    recipes: Mapping[str, tuple[Any, ...]]
    tests: tuple[Tested, ...]

    @property
    def names(self) -> list[str]:
        """What each run is called: A, B, C ..."""
        return [chr(ord("A") + place) if len(self.runs) <= 26 else str(place + 1) for place in range(len(self.runs))]

    def __str__(self) -> str:
        """Plain text for the terminal."""
        lines = [f"{name}  {_about(run)}" for name, run in zip(self.names, self.runs, strict=True)]
        lines += ["", *_table_of(self.recipes, self.names)] if self.recipes else ["", "Their recipes are the same."]
        for tested in self.tests:
            lines += ["", *_lines_of(tested, self.names)]
        if not self.tests:
            lines += ["", "None of them was tested: quickstudy evaluate RUN."]
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """The same as JSON types."""
        return {
            "runs": [{**vars(run), "path": str(run.path)} for run in self.runs],
            "recipes": {key: list(values) for key, values in self.recipes.items()},
            "tests": [
                {
                    "tasks": tested.column,
                    "results": [None if r is None else _short(r) for r in tested.results],
                    "pairs": [
                        {"other": pair.other, "why_not": pair.why_not or None}
                        | ({} if pair.difference is None else asdict(pair.difference))
                        for pair in tested.pairs
                    ],
                }
                for tested in self.tests
            ],
        }


def compare_runs(paths: Sequence[str | Path]) -> RunsCompared:
    """Set runs beside each other; the first one is compared with each of the others.

    Args:
        paths: of two run folders or more.

    Raises:
        InputError: fewer than two, the same one twice, or no run.
    """
    if len(paths) < 2:
        raise InputError(f"Cannot compare {len(paths) or 'no'} run{'s' * (not paths)}: name two or more.")
    folders = [open_run(Path(path)) for path in paths]
    if len({folder.path.resolve() for folder in folders}) < len(folders):
        raise InputError("Cannot compare a run with itself: the same folder is named twice.")
    recipes = [recipe_of(folder) for folder in folders]
    results = [_results(folder, recipe) for folder, recipe in zip(folders, recipes, strict=True)]
    columns = dict.fromkeys(column for one in results for column in one)
    return RunsCompared(
        tuple(summary(folder.path) for folder in folders),
        differences(recipes),
        tuple(_tested(column, tuple(one.get(column) for one in results)) for column in columns),
    )


def differences(recipes: Sequence[Recipe]) -> dict[str, tuple[Any, ...]]:
    """Dotted key -> what each recipe says, of the keys in which they differ; None where one says nothing."""
    flat = [dict(_leaves(recipe.model_dump(mode="json", by_alias=True))) for recipe in recipes]
    keys = dict.fromkeys(key for one in flat for key in one)
    found = {key: tuple(one.get(key) for one in flat) for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def _results(folder: RunFolder, recipe: Recipe) -> dict[str, Result]:
    return by_column(results_of(folder), recipe.data.name)


def _tested(column: str, results: tuple[Result | None, ...]) -> Tested:
    there = [place for place, result in enumerate(results) if result is not None]
    return Tested(column, results, tuple(_pair(results, there[0], other) for other in there[1:]))


def _pair(results: Sequence[Result | None], first: int, other: int) -> Pair:
    a, b = results[first], results[other]
    assert a is not None and b is not None
    try:
        return Pair(other, paired(a, b))
    except InputError as error:
        return Pair(other, None, str(error))


def _leaves(tables: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tables.items():
        short = prefix if key == "options" else f"{prefix}{key.replace('_', '-')}."
        found += _leaves(value, short) if isinstance(value, dict) else [(short.rstrip("."), value)]
    return found


def _about(run: RunSummary) -> str:
    steps = "nothing saved yet" if run.step is None else f"step {run.step} of {run.steps}"
    best = "" if run.best is None else f", best validation {run.best:.4g}"
    return f"{run.path}: {run.learner} on {run.data}, {run.status}, {steps}{best}"


def _table_of(recipes: Mapping[str, tuple[Any, ...]], names: Sequence[str]) -> list[str]:
    rows = [("", *names), *[(key, *map(_said, values)) for key, values in recipes.items()]]
    wide = [max(len(row[place]) for row in rows) for place in range(len(names) + 1)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]


def _said(value: Any) -> str:
    return "-" if value is None else str(value)


def _lines_of(tested: Tested, names: Sequence[str]) -> list[str]:
    lines = [tested.column]
    for name, result in zip(names, tested.results, strict=True):
        if result is None:
            lines.append(f"  {name}  not tested")
            continue
        unit = " %" if metric(result.metric).percent else ""
        said = "".join(f", {mark}" for mark in marks(result))
        lines.append(f"  {name}  {result.metric} {figure(result)}{unit} over {count(result.episodes)} episodes{said}")
    first = next((name for name, result in zip(names, tested.results, strict=True) if result is not None), "")
    metrics = [result.metric for result in tested.results if result is not None]
    return [*lines, *(_pair_line(pair, first, names[pair.other], metrics[0]) for pair in tested.pairs)]


def _pair_line(pair: Pair, first: str, other: str, measured: str) -> str:
    versus = pair.difference
    if versus is None:
        return f"  {first} and {other} are not paired. {pair.why_not}"
    better = f"better in {versus.a_better}, worse in {versus.b_better} of {count(versus.episodes)} episodes"
    if versus.difference != versus.difference:
        return f"  {first} - {other}  infinite errors; {first} is {better}"
    unit = " %" if metric(measured).percent else ""
    interval = f"{number(versus.difference, measured, sign=True)} ± {number(versus.ci95, measured)}{unit}"
    verdict = "no clear difference"
    if versus.excludes_zero:
        verdict = f"{first if versus.favours_a else other} is better"
    return f"  {first} - {other}  {interval}: {verdict} ({first} {better})"


def _short(result: Result) -> dict[str, Any]:
    return {"id": result.id, "metric": result.metric, "mean": result.mean, "ci95": result.ci95} | {
        "episodes": result.episodes,
        "split": result.split,
        "transductive": result.transductive,
    }
