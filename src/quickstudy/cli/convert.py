"""Floor 7: ``quickstudy convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from quickstudy.cli.options import DataRoot, Debug, Json, one_json

__all__ = ["convert"]


def convert(
    name: Annotated[str, typer.Argument(help="A data set of Meta-Dataset, such as omniglot or cu_birds.")],
    raw: Annotated[
        Path | None, typer.Argument(help="The folder with its published files, unpacked; Omniglot's is known.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Where the records go; else meta-dataset/NAME in --data-root.")
    ] = None,
    counts: Annotated[
        Literal["published", "found"],
        typer.Option(help="Whether each class must have as many pictures as were published."),
    ] = "published",
    data_root: DataRoot = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert a data set of Meta-Dataset from its own files to TFRecords; it goes on where it was stopped."""
    del debug  # read by `outcome`
    from quickstudy.data.metadataset.convert import convert as write
    from quickstudy.progress import Line

    line = Line()
    try:
        folder = write(
            name,
            raw,
            to,
            root=data_root,
            counts=counts,
            progress=lambda done, total: line.show(lambda: f"{done:,} of {total:,} pictures"),
        )
    finally:
        line.close()
    if json:
        one_json({"data": name, "folder": str(folder)})
    else:
        typer.echo(folder)
