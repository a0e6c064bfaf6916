"""Floor 7: ``quickstudy sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quickstudy.cli.options import DataRoot, Debug, Device, Json, Threads, one_json, recipe_keys
from quickstudy.cli.process import set_threads
from quickstudy.errors import InputError

if TYPE_CHECKING:
    from quickstudy.sweeps import Swept

__all__ = ["sweep"]


def sweep(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name, the path of a TOML file, or the folder of a sweep to go on with.")
    ],
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many, those that are there already included; by default 50, or as many as a sweep that goes on "
            "was asked for.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes side by side; by default one a core, four at most, and one on a GPU."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=RANGE",
            help="A key to vary, such as learner.inner-lr=log:0.01:1; also float:0:1, int:1:10, intlog:1:100 and "
            "choice:a,b. Again for more keys; by default what suits the learner.",
        ),
    ] = None,
    search: Annotated[Path | None, typer.Option(help="A TOML file with ranges in the tables of a recipe.")] = None,
    out: Annotated[Path | None, typer.Option(help="The sweep's folder; sweeps/RECIPE by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Short for --train.steps.")] = None,
    sampler: Annotated[
        Literal["tpe", "random"] | None, typer.Option(help="How values are drawn: where trials were good, or anyhow.")
    ] = None,
    prune: Annotated[
        Literal["median", "halving", "none"] | None,
        typer.Option(help="When a trial is stopped: worse than the median of others at that step, or the like."),
    ] = None,
    sweep_seed: Annotated[int | None, typer.Option(help="Of the draws; --seed is the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="The recipe's seed.")] = None,
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="Test the best trial at the end; --no-test: add trials later.")
    ] = True,
    device: Device = None,
    threads: Threads = None,
    data_root: DataRoot = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe with many values of some of its keys; the best by meta-validation is meta-tested, once.

    Every key of the recipe is an option too, for all trials: --train.validate-every 200

    A sweep that was killed goes on when it is called again.
    """
    del debug  # read by `outcome`
    overrides: dict[str, Any] = dict(recipe_keys(context))
    if steps is not None and "train.steps" in overrides:
        raise InputError("--steps is short for --train.steps, and both are given. Give one.")
    overrides |= {key: value for key, value in (("train.steps", steps), ("seed", seed)) if value is not None}
    ranges = _ranges(vary or [])
    set_threads(threads)

    from quickstudy.sweeps import sweep as run_sweep
    from quickstudy.train import Interrupted

    try:
        swept = run_sweep(
            recipe,
            trials=trials,
            workers=workers,
            vary=ranges,
            search=search,
            overrides=overrides,
            out=out,
            data_root=data_root,
            device=device,
            sampler=sampler,
            prune=prune,
            seed=sweep_seed,
            test=test,
            progress=True,
        )
    except Interrupted as interrupted:
        # Here, and not in `outcome`, because typer would swallow what it says.
        typer.echo(str(interrupted), err=True)
        raise typer.Exit(130) from None
    if json:
        one_json(_document(swept))
    else:
        _print(swept)
    typer.echo(f"The page is {swept.folder.report}; the best trial is a run: {swept.run}", err=True)


def _ranges(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--vary: expected KEY=RANGE, such as learner.inner-lr=log:0.01:1, found {text!r}.")
        if key.strip() in found:
            raise InputError(f"--vary: {key.strip()} is given twice. Give it one range.")
        found[key.strip()] = value.strip()
    return found


def _print(swept: Swept) -> None:
    from quickstudy.sweeps.told import counts, figure_of

    typer.echo(f"{len(swept.trials)} trials: {counts(swept.trials)}")
    typer.echo(
        f"best: trial {swept.best.number}, validation {swept.metric} {figure_of(swept.best.value, swept.metric)}"
    )
    for key, value in swept.best.values.items():
        share = f"  (importance {100 * swept.importance[key]:.0f} %)" if key in swept.importance else ""
        typer.echo(f"  --{key} {value}{share}")
    typer.echo("not tested yet; without --no-test it will be" if swept.result is None else str(swept.result))


def _document(swept: Swept) -> dict[str, Any]:
    from json import loads as json_of

    return {
        "sweep": str(swept.folder.path),
        "metric": swept.metric,
        "space": [one.record() for one in swept.space],
        "trials": [vars(trial) for trial in swept.trials],
        "best": {**vars(swept.best), "run": str(swept.run)},
        "importance": dict(swept.importance),
        "test": None if swept.result is None else json_of(swept.result.to_json()),
    }
