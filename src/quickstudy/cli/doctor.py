"""Floor 7: ``quickstudy doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quickstudy.cli.options import DataRoot, Debug, Device, Json, Threads, recipe_keys
from quickstudy.cli.process import set_threads

__all__ = ["doctor"]

_PROBLEMS = 1


def doctor(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="A recipe's name, the path of a TOML file, or the folder of a run.")],
    tasks: Annotated[int, typer.Option(help="Training tasks to try it on; two show whether they touch.")] = 2,
    seed: Annotated[int, typer.Option(help="Which tasks, and the learner's randomness.")] = 0,
    device: Device = None,
    threads: Threads = None,
    data_root: DataRoot = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Look for what is wrong with a learner, its network and its tasks; the status is 1 if anything is.

    Keys of the recipe can change: --net.norm batch
    """
    del debug  # read by `outcome`
    overrides = recipe_keys(context)
    set_threads(threads)

    from quickstudy import api
    from quickstudy.recipes import build, load_recipe
    from quickstudy.runs import is_run, learner_of, open_run, recipe_of
    from quickstudy.training import pick_device

    run = open_run(Path(what)) if is_run(Path(what)) else None
    recipe = load_recipe(what, overrides) if run is None else recipe_of(run, overrides)
    built = build(recipe, data_root)
    learner = built.learner if run is None else learner_of(run, recipe)
    report = api.doctor(learner.to(pick_device(device)), built.train, tasks=tasks, seed=seed)
    typer.echo(report.to_json() if json else report.to_text())
    if not report.healthy:
        raise typer.Exit(_PROBLEMS)
