"""Floor 7: ``quickstudy show``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickstudy.cli.completion import recipe_names
from quickstudy.cli.options import Debug, Json, one_json, recipe_keys
from quickstudy.errors import InputError

if TYPE_CHECKING:
    from quickstudy.recipes import Recipe

__all__ = ["show"]


def show(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            help="A recipe's name, the path of a TOML file, or the folder of a run.", autocompletion=recipe_names
        ),
    ],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a recipe with all its defaults, or what a run has found."""
    del debug  # read by `outcome`
    overrides = recipe_keys(context)

    from quickstudy.recipes import load_recipe
    from quickstudy.runs import is_run

    if is_run(Path(what)):
        if overrides:
            raise InputError(
                f"{what} is a run: its recipe cannot be changed. Show a recipe with other options instead."
            )
        _show_run(Path(what), json)
    else:
        _show_recipe(load_recipe(what, overrides), json)


def _show_recipe(recipe: Recipe, json: bool) -> None:
    from quickstudy.recipes import recipe_hash, to_toml
    from quickstudy.recipes.building import build_data

    if json:
        one_json({**recipe.model_dump(mode="json", by_alias=True), "hash": recipe_hash(recipe)})
        return
    note = getattr(build_data(recipe), "note", "")
    if note:
        typer.echo(f"# {note}")  # a comment, so that what is printed is a recipe still
    typer.echo(to_toml(recipe).rstrip())


def _show_run(path: Path, json: bool) -> None:
    from json import loads as json_of

    from quickstudy.evaluate import Entry, compare, render_table
    from quickstudy.recipes import to_toml
    from quickstudy.reporting import by_column
    from quickstudy.runlist import summary
    from quickstudy.runs import changes_of, open_run, recipe_of, results_of

    run = open_run(path)
    recipe, results, found = recipe_of(run), results_of(run), summary(path)
    if json:
        one_json(
            {
                **vars(found),
                "path": str(path),
                "recipe": recipe.model_dump(mode="json", by_alias=True),
                "changes": [{"step": at, "what": what} for at, what in changes_of(run)],
                "evaluations": [json_of(result.to_json()) for result in results],
            }
        )
        return
    step = "nothing saved yet" if found.step is None else f"step {found.step} of {found.steps}"
    best = "" if found.best is None else f", best validation {found.best:.4g}"
    typer.echo(f"# {path}: {step}{best}")
    if found.why:
        why = " ".join(found.why.split()).rstrip(".")  # one line, so that what is printed is a recipe still
        typer.echo(f"# {found.status}: {why}.")
    for at, what in changes_of(run):
        typer.echo(f"# after step {at}: {what}")
    typer.echo(to_toml(recipe).rstrip())
    for metric in sorted({result.metric for result in results}):
        mine = by_column([result for result in results if result.metric == metric], recipe.data.name)
        typer.echo("\n" + render_table(compare([Entry(recipe.learner.name, mine)])))
