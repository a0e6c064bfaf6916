"""Floor 7: ``quickstudy train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from quickstudy.cli.completion import recipe_names
from quickstudy.cli.options import (
    DataRoot,
    Debug,
    Device,
    Json,
    Ranks,
    Runs,
    Threads,
    one_json,
    rank_number,
    recipe_keys,
)
from quickstudy.cli.process import set_threads
from quickstudy.errors import InputError

__all__ = ["train"]


def train(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe's name, the path of a TOML file, or a run to resume.", autocompletion=recipe_names
        ),
    ],
    steps: Annotated[int | None, typer.Option(help="Short for --train.steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The recipe's seed.")] = None,
    device: Device = None,
    ranks: Ranks = "auto",
    threads: Threads = None,
    data_root: DataRoot = None,
    runs: Runs = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run, or the recipe's newest run.")] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes", help="Go on though settings, data or version changed; the run keeps what did."
        ),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard files into the run's folder (extra: tracking).")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Meta-train a learner from a recipe; prints the folder of the run.

    Every key of the recipe is an option too: --learner.inner-lr 0.2 --episodes.train.way '[5, 20]'

    Own files in place of the recipe's data: --images DIR --shards PATH --parquet PATH --sounds DIR --texts FILE
    --ratings FILE --bars PATH, or
    --table FILE --group COLUMN --target COLUMN --time COLUMN, or --environment NAME
    """
    del debug  # read by `outcome`
    overrides: dict[str, Any] = dict(recipe_keys(context))
    if steps is not None and "train.steps" in overrides:
        raise InputError("--steps is short for --train.steps, and both are given. Give one.")
    overrides |= {key: value for key, value in (("train.steps", steps), ("seed", seed)) if value is not None}

    number = rank_number(ranks)
    set_threads(threads)

    from quickstudy import api
    from quickstudy.train import Interrupted
    from quickstudy.train.ranks_group import seat

    try:
        run = api.train(
            recipe,
            overrides=overrides,
            data_root=data_root,
            runs=runs,
            device=device,
            progress=True,
            tensorboard=tensorboard,
            resume=resume,
            accept_changes=accept_changes,
            ranks=number,
        )
    except Interrupted as interrupted:
        # Here, and not in `outcome`, because typer would swallow what it says.
        typer.echo(str(interrupted), err=True)
        raise typer.Exit(130) from None
    place = seat(os.environ)
    if place is not None and place.rank:
        return  # the first of them says it
    if json:
        trained = run.trained
        one_json({"run": str(run.path), "step": trained.step, "best": trained.best, "best_step": trained.best_step})
    else:
        typer.echo(run.path)
        new = "tasks" if run.recipe.episodes.test.way is None else "classes"
        typer.echo(f"Test it on {new} that it has never seen: quickstudy evaluate {run.path}", err=True)
