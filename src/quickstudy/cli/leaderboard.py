"""Floor 7: ``quickstudy leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from quickstudy.cli.options import DataRoot, Debug, Device, Json, Threads, one_json, recipe_keys
from quickstudy.cli.process import set_threads
from quickstudy.errors import InputError

if TYPE_CHECKING:
    from quickstudy.leaderboard.board import Board

__all__ = ["leaderboard"]

_ADDING = ("run", "by")


def leaderboard(
    context: typer.Context,
    results: Annotated[Path, typer.Option(help="The folder of results; JSON files in it and below.")] = Path("results"),
    data: Annotated[str | None, typer.Option(help="Only tasks of this data set.")] = None,
    way: Annotated[int | None, typer.Option(help="Only tasks of so many classes.")] = None,
    shot: Annotated[int | None, typer.Option(help="Only tasks of so many examples a class.")] = None,
    learner: Annotated[str | None, typer.Option(help="Only rows with this in their name.")] = None,
    transductive: Annotated[
        bool | None, typer.Option("--transductive/--inductive", help="Only such rows; by default both, ranked apart.")
    ] = None,
    sort: Annotated[
        Literal["figure", "cost", "energy", "name", "date"], typer.Option(help="The order of rows in a table.")
    ] = "figure",
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Print the figures of robustness, too, of rows that have some.")
    ] = False,
    page: Annotated[Path | None, typer.Option(help="Write one HTML page that needs no network.")] = None,
    add: Annotated[
        Path | None, typer.Option(metavar="RESULT.json", help="Add a result, after its checkpoint was tested again.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="With --add: the run that it is of; by default the one that the file lies in.")
    ] = None,
    sample: Annotated[int, typer.Option(help="With --add: how many episodes are tested again.")] = 20,
    by: Annotated[str | None, typer.Option(help="With --add: who adds it.")] = None,
    model_index: Annotated[
        Path | None, typer.Option(metavar="RESULT.json", help="Print a result as the metadata of a model card.")
    ] = None,
    device: Device = None,
    threads: Threads = None,
    data_root: DataRoot = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the leaderboard of a folder of results, write it as a page, or add a result to it.

    Rows that saw the same episodes are compared in pairs, with a correction for their number; figures of papers stand
    apart and are never ranked. With --add, options of the test that differ from the run's recipe are given as in
    `quickstudy evaluate` (--learner.test-inner-steps 10, --data.name caltech101).
    """
    del debug  # read by `outcome`
    keys = recipe_keys(context)
    if add is not None and model_index is not None:
        raise InputError("Give --add or --model-index, not both.")
    if model_index is not None:
        _print_model_index(model_index)
        return
    if add is None:
        _refuse_without_add(context, keys)
    else:
        set_threads(threads)
        _add(add, run, results, sample, by, keys, data_root, device, json)
        if page is None:
            return
    from quickstudy.leaderboard import read_board, write_page

    found = read_board(results).only(data=data, way=way, shot=shot, learner=learner, transductive=transductive)
    for told in found.passed_over:
        typer.echo(f"Passed over: {told}", err=True)
    if page is not None:
        write_page(page, found)
    if add is None:
        _print(found, sort, page, json, robustness)


def _refuse_without_add(context: typer.Context, keys: dict[str, str]) -> None:
    given = [f"--{name}" for name in _ADDING if context.params[name] is not None] + [f"--{key}" for key in keys]
    if given:
        raise InputError(f"{given[0]} is of use with --add alone. Name the result: --add RESULT.json.")


def _print(
    board: Board,
    sort: Literal["figure", "cost", "energy", "name", "date"],
    page: Path | None,
    json: bool,
    robustness: bool,
) -> None:
    from dataclasses import replace

    from quickstudy.leaderboard import render_board
    from quickstudy.leaderboard.text import document

    shown = replace(board, tables=tuple(table.sorted_by(sort) for table in board.tables))
    if json:
        one_json(document(shown) | ({} if page is None else {"page": str(page)}))
    elif page is not None:
        typer.echo(page)
    elif shown.tables:
        typer.echo(render_board(shown, robustness=robustness))
    else:
        typer.echo("No row is like that. `quickstudy leaderboard` without filters prints all.", err=True)


def _print_model_index(path: Path) -> None:
    from quickstudy.evaluate.modelindex import model_index
    from quickstudy.leaderboard.entry import read_result

    result, provenance = read_result(path)
    about = provenance or {}
    typer.echo(model_index(str(about.get("recipe") or about.get("row") or result.learner), [result]), nl=False)


def _add(
    file: Path,
    run: Path | None,
    results: Path,
    sample: int,
    by: str | None,
    keys: dict[str, str],
    data_root: Path | None,
    device: str | None,
    json: bool,
) -> None:
    from quickstudy.leaderboard import add
    from quickstudy.progress import EvaluationProgress, Line

    said = add(
        file,
        run,
        results=results,
        sample=sample,
        by=by,
        overrides=keys,
        data_root=data_root,
        device=device,
        progress=EvaluationProgress(Line(), "episodes tested again"),
    )
    many = len(said.checked.episodes)
    if json:
        about = {"row": str(said.path), "new": said.new, "robustness_added": said.robustness_added}
        one_json({**about, "checked": said.checked.model_dump(mode="json")})
    elif said.new:
        typer.echo(f"{said.path}: added; {many} episodes came out again, to {said.checked.difference:.2g} at most.")
    else:
        what = "its robustness figures were added" if said.robustness_added else "unchanged"
        typer.echo(f"{said.path}: there already, and {what}; {many} episodes came out again.")
