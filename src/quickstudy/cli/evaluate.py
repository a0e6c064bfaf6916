"""Floor 7: ``quickstudy evaluate``."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from quickstudy.cli.options import DataRoot, Debug, Device, Json, Ranks, Threads, one_json, rank_number, recipe_keys
from quickstudy.cli.process import set_threads
from quickstudy.errors import InputError, RunError

if TYPE_CHECKING:
    from quickstudy.evaluate import Result

__all__ = ["evaluate"]

_SIZE = "A number, or a range such as 5-20; as in the recipe by default."


def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    way: Annotated[str | None, typer.Option(help=f"Classes a task. {_SIZE}")] = None,
    shot: Annotated[str | None, typer.Option(help=f"Support examples a class. {_SIZE}")] = None,
    query: Annotated[str | None, typer.Option(help=f"Query examples a class. {_SIZE}")] = None,
    dirichlet: Annotated[
        float | None,
        typer.Option(
            help="Concentration of the classes' shares of the queries, a number above 0 such as 2; 0 leaves it out: as "
            "many of each class. As in the recipe by default. All queries of a task may be of one class: classes with "
            "few examples, such as Omniglot's 20, need a small --query."
        ),
    ] = None,
    episodes: Annotated[int | None, typer.Option(help="How many tasks; as in the recipe by default.")] = None,
    role: Annotated[str | None, typer.Option(help="test or validation; as in the recipe by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of the tasks. Runs tested with the same one saw the same tasks.")] = 0,
    checkpoint: Annotated[
        Literal["best", "last"] | None, typer.Option(help="By default the best, where the run was validated.")
    ] = None,
    precision: Annotated[
        Literal["float32", "tf32", "bf16", "fp16"] | None,
        typer.Option(
            help="How the learner computes; by default as the recipe's evaluate.precision, which is float32, whatever "
            "it was trained in."
        ),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Also measure where the learner fails: worst class and episodes, calibration, unknown classes, wrong "
            "labels, turned and noisy queries, other shots and ways; on the first 300 episodes. Two dozen tests.",
        ),
    ] = False,
    tasks_at_once: Annotated[
        int | None,
        typer.Option(help="Tasks computed together; bounds the memory. By default as many as have room, 16 at most."),
    ] = None,
    device: Device = None,
    ranks: Ranks = "auto",
    threads: Threads = None,
    data_root: DataRoot = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Meta-test a run on tasks that it has never seen; saves and prints the result.

    Options of the learner's adaptation can change: --learner.test-inner-steps 10

    So can the data, where its examples have the same shape: --data.name caltech101 --data.size 28 --data.channels 1
    """
    del debug  # read by `outcome`
    ways, shots, queries = _size("way", way), _size("shot", shot), _size("query", query)
    overrides = recipe_keys(context)
    number = rank_number(ranks)
    set_threads(threads)

    from quickstudy import api

    result = api.evaluate(
        run,
        way=ways,
        shot=shots,
        query=queries,
        dirichlet=dirichlet,
        episodes=episodes,
        role=role,
        seed=seed,
        checkpoint=checkpoint,
        overrides=overrides,
        precision=precision,
        data_root=data_root,
        device=device,
        tasks_at_once=tasks_at_once,
        progress=True,
        ranks=number,
        robustness=robustness,
    )
    _say(run, result, robustness, json)
    typer.echo(f"Saved in {run / 'evaluations' / f'{result.id}.json'}; the page is {run / 'report.html'}", err=True)
    if result.diverged == result.episodes:
        raise RunError(
            f"All {result.episodes} episodes diverged, so the figure says nothing of the learner. Take smaller or "
            "fewer inner steps, such as --learner.test-inner-lr or --learner.test-inner-steps; or train it anew."
        )


def _say(run: Path, result: Result, robustness: bool, json: bool) -> None:
    """The result on stdout, and with it the figures of robustness."""
    if not robustness:
        typer.echo(result.to_json().rstrip() if json else str(result))
        return
    from quickstudy.runs import open_run
    from quickstudy.stressing import robustness_of

    found = robustness_of(open_run(run))
    if found is None:  # though it was saved a moment ago
        raise RunError(
            f"{run} was trained on by another process while it was tested, so that nobody can say of which step the "
            "figures are. Run it again when that training is over."
        )
    if json:
        one_json({"result": loads(result.to_json()), "robustness": loads(found.to_json())})
    else:
        typer.echo(f"{result}\n\n{found}")


def _size(name: str, text: str | None) -> int | tuple[int, int] | None:
    """``5`` or ``5-20``."""
    if text is None:
        return None
    ends = text.split("-")
    if len(ends) > 2 or not all(end.isascii() and end.isdigit() for end in ends):
        raise InputError(f"--{name}: expected a whole number or a range such as 5-20, found {text!r}.")
    numbers = [int(end) for end in ends]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
