"""Floor 7: ``quickstudy list``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from quickstudy.cli.options import Debug, Json, Runs, one_json

__all__ = ["list_names"]


def list_names(
    kind: Annotated[Literal["learners", "nets", "data", "recipes", "runs"], typer.Argument(help="What to list.")],
    runs: Runs = Path("runs"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List what can be used by name, or the runs that there are."""
    del debug  # read by `outcome`
    if kind == "runs":
        _list_runs(runs, json)
        return
    names = _names(kind)
    if json:
        one_json(names)
        return
    for name in names:
        typer.echo(name)


def _names(kind: str) -> list[str]:
    if kind == "recipes":
        from quickstudy.recipes import recipes

        return recipes.names()
    from quickstudy.recipes.parts import REGISTRIES

    return REGISTRIES[{"learners": "learner", "nets": "net", "data": "data"}[kind]].names()


def _list_runs(folder: Path, json: bool) -> None:
    from quickstudy.runs import RunSummary, list_runs

    def line(run: RunSummary) -> str:
        if run.step is None:
            return f"{run.path}  nothing saved yet"
        best = "" if run.best is None else f"  best validation {run.best:.4g}"
        return f"{run.path}  step {run.step}/{run.steps}{best}  {run.evaluations} evaluations"

    found = list_runs(folder)
    if json:
        one_json([{**vars(run), "path": str(run.path)} for run in found])
        return
    if not found:
        typer.echo(f"There are no runs in {folder}. `quickstudy train RECIPE` makes one.", err=True)
    for run in found:
        typer.echo(line(run))
