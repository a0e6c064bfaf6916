"""Floor 7: ``quickstudy fetch``."""

from __future__ import annotations

from typing import Annotated

import typer

from quickstudy.cli.completion import data_names
from quickstudy.cli.options import DataRoot, Debug, Json, one_json

__all__ = ["fetch"]


def fetch(
    name: Annotated[str, typer.Argument(help="A data set, such as omniglot.", autocompletion=data_names)],
    data_root: DataRoot = None,
    base_url: Annotated[str | None, typer.Option(help="A mirror, laid out like the data set's folder.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Bring a data set from its published address: checked, and resumed where it was cut off."""
    del debug  # read by `outcome`
    from quickstudy.data.fetch import fetch as bring
    from quickstudy.progress import Line

    line = Line()

    def progress(file: str, here: int, total: int | None) -> None:
        of = f" of {total / 1e6:.1f}" if total is not None else ""
        line.show(lambda: f"{file}: {here / 1e6:.1f}{of} MB")

    try:
        folder = bring(name, data_root, base_url=base_url, progress=progress)
    finally:
        line.close()
    if json:
        one_json({"data": name, "folder": str(folder)})
    else:
        typer.echo(folder)
