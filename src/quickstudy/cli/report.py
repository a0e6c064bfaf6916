"""Floor 7: ``quickstudy report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from quickstudy.cli.options import DataRoot, Debug, Device, Json, Threads, one_json
from quickstudy.cli.process import set_threads

__all__ = ["report"]


def report(
    runs: Annotated[list[Path], typer.Argument(help="The folders of one or several runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; of one run full-report.html in its folder, of several report.html in this one."),
    ] = None,
    role: Annotated[
        Literal["validation", "test"] | None,
        typer.Option(help="Tasks that the learners are asked; validation, where the data has it."),
    ] = None,
    episodes: Annotated[int, typer.Option(help="How many tasks they are asked; 0: none.")] = 100,
    device: Device = None,
    threads: Threads = None,
    data_root: DataRoot = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a page over one or several runs: curves, inner steps, shots, rates, calibration, confusion, hardest tasks.

    One HTML file that needs no network. Prints its path.
    """
    del debug  # read by `outcome`
    set_threads(threads)

    from quickstudy.reports import report as write

    page = write(runs, out=out, role=role, episodes=episodes, data_root=data_root, device=device, progress=True)
    if json:
        one_json({"report": str(page), "runs": [str(run) for run in runs]})
    else:
        typer.echo(page)
