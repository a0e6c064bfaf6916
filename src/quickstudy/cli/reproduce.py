"""Floor 7: ``quickstudy reproduce``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quickstudy.cli.completion import claim_names
from quickstudy.cli.options import DataRoot, Debug, Device, Json, Ranks, Runs, Threads, one_json, rank_number
from quickstudy.cli.process import set_threads
from quickstudy.errors import InputError

if TYPE_CHECKING:
    from quickstudy.reproduce import Claim, Reproduced

__all__ = ["reproduce"]


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A claim, such as omniglot-protonet-5w1s; all are listed without.", autocompletion=claim_names
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Wall time for all trainings, such as 20m, divided over the seeds that remain; what is cut is saved, "
            "tested as far as it came, and goes on the next time. Tests after it come on top.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Of the trainings; a verdict takes three.")] = "0,1,2",
    watts: Annotated[
        float | None, typer.Option(help="Of a busy core, for the estimate of energy: 10 by default, an assumption.")
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Measure robustness, too: changed tasks, up to 300 of each (classes only)."),
    ] = False,
    results: Annotated[Path, typer.Option(help="The folder of results; reproduce/ in it gets a file a seed.")] = Path(
        "results"
    ),
    show: Annotated[
        bool, typer.Option("--show", help="Print the claim and its recipe, of the first seed; train nothing.")
    ] = False,
    device: Device = None,
    ranks: Ranks = "auto",
    threads: Threads = None,
    data_root: DataRoot = None,
    runs: Runs = Path("runs"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train and test a published protocol, and say whether the paper's figure came out.

    A second call goes on where the first was stopped; what is finished is not trained again.
    """
    del debug  # read by `outcome`
    if name is None:
        _list(results, json)
        return
    wanted, number = _seeds(seeds), rank_number(ranks)
    if show:
        _show(name, wanted[0], json)
        return
    set_threads(threads)

    from quickstudy.reproduce import read_duration
    from quickstudy.reproduce import reproduce as run
    from quickstudy.train import Interrupted

    seconds = None if budget is None else read_duration(budget)
    given: dict[str, Any] = {} if watts is None else {"watts": watts}
    try:
        found = run(
            name,
            seeds=wanted,
            budget=seconds,
            runs=runs,
            results=results,
            data_root=data_root,
            device=device,
            ranks=number,
            robustness=robustness,
            progress=True,
            tell=_tell,
            **given,
        )
    except Interrupted as interrupted:
        # Here, and not in `outcome`, because typer would swallow what it says.
        typer.echo(str(interrupted), err=True)
        raise typer.Exit(130) from None
    if json:
        one_json(_document(found))
    else:
        _print(found)


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(f"--seeds: expected whole numbers with commas between, such as 0,1,2, found {text!r}.")
    return [int(part) for part in parts]


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _list(results: Path, json: bool) -> None:
    from quickstudy.reproduce import overview
    from quickstudy.reproduce.wording import ours, printed

    found = overview(results, _tell)
    if json:
        one_json([_document(one) for one in found])
        return
    rows = [("claim", "published", "ours", "verdict")]
    for one in found:
        rows.append(
            (
                one.claim.name,
                printed(one.claim.published, one.claim),
                ours(one.verdict, one.claim, one.records),
                one.verdict.kind,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        typer.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip())


def _show(name: str, seed: int, json: bool) -> None:
    from quickstudy.recipes import to_toml
    from quickstudy.reproduce import claim

    one = claim(name)
    recipe = one.recipe_of(seed)
    if json:
        settings = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
        one_json({"claim": one.model_dump(mode="json"), "band": one.band, "recipe": settings})
        return
    _print_claim(one)
    _print_notes(one)
    if one.training is not None:
        typer.echo(f"  trained as  {one.training}")
    tested = [f"{key} {value}" for key, value in one.test.model_dump(exclude_none=True).items() if value != {}]
    typer.echo(f"  tested with {', '.join(tested)}; else as the recipe says\n")
    typer.echo(to_toml(recipe).rstrip())


def _print_claim(one: Claim) -> None:
    from quickstudy.reproduce.wording import printed, reruns

    typer.echo(f"{one.name}: {one.title}")
    read = f"read {one.read}" if one.published is not None else one.read
    typer.echo(f"  published   {printed(one.published, one)}; {one.source}; {read}")
    if one.reruns:
        typer.echo(f"  re-runs     {reruns(one)}")
    for rerun in one.reruns:
        note = f" ({rerun.note})" if rerun.note else ""
        typer.echo(f"              {printed(rerun, one)}: {rerun.source}{note}")


def _print_notes(one: Claim) -> None:
    from quickstudy.reproduce.wording import rule

    if one.published is not None:
        typer.echo(f"  {rule(one)}")
    for note in one.notes:
        typer.echo(f"  note: {note}")


def _print(found: Reproduced) -> None:
    from quickstudy.evaluate.wording import figure, marks
    from quickstudy.reproduce.wording import curve_line, ours, sentence, steps_of

    one = found.claim
    _print_claim(one)
    for record in found.records:
        about = record.about
        said = [figure(record.result), *marks(record.result), steps_of(record)]
        said += [f"{about.train_seconds:,.0f} s"] * bool(about.steps)
        if about.steps and about.energy is not None:
            said.append(f"about {about.energy['watt_hours']:.3g} Wh")
        typer.echo(f"  seed {about.seed:<6} {'; '.join(said)}")
        if not record.figure.finished and curve_line(record):
            typer.echo(f"              {curve_line(record)}")
    typer.echo(f"  ours        {ours(found.verdict, one, found.records) or 'nothing yet'}")
    typer.echo(f"  verdict     {sentence(found.verdict, one, found.records)}")
    _print_notes(one)


def _document(found: Reproduced) -> dict[str, Any]:
    from quickstudy.reproduce.wording import sentence

    one = found.claim
    verdict = {key: _finite(value) for key, value in vars(found.verdict).items()}
    return {
        "claim": one.model_dump(mode="json"),
        "band": one.band,
        "seeds": [
            {
                "file": str(record.path),
                "mean": _finite(record.result.mean),
                "ci95": _finite(record.result.ci95),
                **record.about.model_dump(mode="json"),
            }
            for record in found.records
        ],
        "verdict": verdict | {"sentence": sentence(found.verdict, one, found.records)},
    }


def _finite(value: Any) -> Any:
    """JSON has no infinite numbers: as in files, they are texts."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
