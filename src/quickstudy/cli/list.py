"""Floor 7: ``quickstudy list``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from quickstudy.cli.options import Debug, Json, Runs, one_json
from quickstudy.cli.runs import print_runs

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
        from quickstudy.runlist import list_runs

        print_runs(list_runs(runs), runs, json)
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
