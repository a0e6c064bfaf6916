"""Floor 7: ``quickstudy runs``."""

from __future__ import annotations

import datetime
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from quickstudy.cli.options import Debug, Json, Runs, one_json
from quickstudy.errors import InputError

if TYPE_CHECKING:
    from quickstudy.runlist import RunSummary

__all__ = ["print_runs", "runs", "seconds_since"]

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


def runs(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATTERN]", help="Part of a name, or a pattern such as 'omniglot-*'; or: compare A B"),
    ] = None,
    learner: Annotated[str | None, typer.Option(help="Only runs of this learner.")] = None,
    data: Annotated[str | None, typer.Option(help="Only runs on this data set.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs that changed since: 30m, 12h, 2d, 1w, or a date 2026-01-31.")
    ] = None,
    status: Annotated[
        Literal["finished", "interrupted", "failed", "pruned", "running"] | None, typer.Option(help="Only these.")
    ] = None,
    runs: Runs = Path("runs"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs that there are, or compare some (quickstudy runs compare A B).

    Results on the same tasks are compared in pairs; where the tasks differ, it says in what.
    """
    del debug  # read by `outcome`
    words = what or []
    if words[:1] == ["compare"]:
        if learner or data or since or status:
            raise InputError("runs compare takes the folders of runs, and no filter. Name the runs.")
        _compare([_found(runs, name) for name in words[1:]], json)
        return
    if len(words) > 1:
        raise InputError(
            f"Expected one pattern, found {len(words)}: {' '.join(words)}. Put it in quotes; or: runs compare A B."
        )
    from quickstudy.runlist import list_runs

    found = list_runs(
        runs,
        words[0] if words else "*",
        learner=learner,
        data=data,
        since=None if since is None else seconds_since(since),
        status=() if status is None else (status,),
    )
    print_runs(found, runs, json, filtered=bool(words or learner or data or since or status))


def print_runs(found: list[RunSummary], folder: Path, json: bool, *, filtered: bool = False) -> None:
    """A line for each run, or one JSON document.

    Args:
        found: in the order in which they are printed.
        folder: where they were looked for.
        json: as JSON.
        filtered: some may have been left out.
    """
    if json:
        one_json([{**vars(run), "path": str(run.path)} for run in found])
        return
    if not found and filtered and folder.is_dir():
        typer.echo(f"No run in {folder} is like that. `quickstudy runs` lists all.", err=True)
    elif not found:
        typer.echo(f"There are no runs in {folder}. `quickstudy train RECIPE` makes one.", err=True)
    for row in _aligned([_row(run) for run in found]):
        typer.echo(row)


def _row(run: RunSummary) -> tuple[str, ...]:
    steps = "nothing saved yet" if run.step is None else f"step {run.step}/{run.steps}"
    best = "not validated"
    if run.best is not None:
        best = f"best validation {_figure(run.best, run.metric)}"
    many = f"{run.evaluations} evaluation{'' if run.evaluations == 1 else 's'}"
    of = "recipe unreadable" if run.learner is None else f"{run.learner} on {run.data}"
    return str(run.path), run.status, steps, of, best, many


def _figure(value: float, name: str | None) -> str:
    from quickstudy.errors import UnknownName
    from quickstudy.evaluate.wording import number
    from quickstudy.metrics import metric

    try:
        return f"{name} {number(value, name or '')}{' %' if metric(name or '').percent else ''}"
    except UnknownName:  # of another version, or not told
        return f"{value:.4g}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    wide = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]


def _found(runs: Path, name: str) -> Path:
    """A run by its path, or by its name in the folder of runs."""
    return Path(name) if Path(name).exists() or not (runs / name).exists() else runs / name


def _compare(paths: list[Path], json: bool) -> None:
    from quickstudy.reports import compare_runs

    compared = compare_runs(paths)
    if json:
        one_json(compared.document())
    else:
        typer.echo(str(compared))


def seconds_since(text: str, now: float | None = None) -> float:
    """How long ago ``2d`` or ``2026-01-31`` is.

    Args:
        text: a number and m, h, d or w; or a date.
        now: seconds since 1970; by default the clock's.

    Raises:
        InputError: it is neither, or lies in the future.

    >>> seconds_since("2d"), seconds_since("90m")
    (172800.0, 5400.0)
    """
    length = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if length is not None:
        return float(length[1]) * _UNITS[length[2]]
    try:
        begin = datetime.datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError) as error:
        raise InputError(f"--since: expected 30m, 12h, 2d, 1w or a date such as 2026-01-31, found {text!r}.") from error
    ago = (time.time() if now is None else now) - begin
    if ago < 0:
        raise InputError(f"--since: {text} lies in the future.")
    return ago
