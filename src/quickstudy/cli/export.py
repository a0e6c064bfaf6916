"""Floor 7: ``quickstudy export``: a learned task, or a learner, as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from quickstudy.cli.options import Debug, Json, one_json
from quickstudy.errors import InputError

__all__ = ["export"]


def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TASK|LEARNER",
            help="The folder of a task or of a saved learner, of a run, or the name of a shipped learner.",
        ),
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX (the default).")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="Write what torch.export.load reads.")] = False,
    out: Annotated[Path | None, typer.Option(help="The file; by default the folder's name with .onnx or .pt2.")] = None,
    way: Annotated[
        int | None,
        typer.Option(help="Of a learner: write it whole, for so many classes, and not its features alone."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a task (examples in, probabilities out) or a learner (features, or whole) as ONNX or for torch."""
    del debug  # read by `outcome`
    if onnx and torch:
        raise InputError("--onnx and --torch are two files. Give one of them, and run the command again for the other.")
    path = out or Path(f"{Path(what).name or 'learner'}.{'pt2' if torch else 'onnx'}")
    source, kind = _found(what)
    if way is not None and kind == "task":
        raise InputError("--way is for learners: a task knows its classes. Leave it out.")
    options: dict[str, Any] = {} if kind == "task" else {"way": way}
    far = (source.export_torch if torch else source.export_onnx)(path, **options)
    written = "task" if kind == "task" else "features" if way is None else f"learner of {way} classes"
    if json:
        one_json({"file": str(path), "what": written, "bytes": path.stat().st_size, "difference": far})
        return
    typer.echo(f"{path}: {written}, {path.stat().st_size:,} bytes; within {far:.1g} of what quickstudy says")


def _found(what: str) -> tuple[Any, str]:
    """The task or the learner, and which of the two it is."""
    from quickstudy.estimators import load_task
    from quickstudy.estimators.savedtask import is_task
    from quickstudy.runs import is_run
    from quickstudy.saved import SavedLearner, is_saved
    from quickstudy.shipped import shipped, shipped_names

    path = Path(what).expanduser()
    if is_task(path):
        return load_task(path), "task"
    if is_saved(path):
        return SavedLearner.load(path), "learner"
    if is_run(path):
        return SavedLearner.of_run(path), "learner"
    if what in shipped_names():
        return shipped(what), "learner"
    raise InputError(
        f"There is no task, learner or run at {what}, and no shipped learner of that name. Give a folder that "
        f"`quickstudy learn` or `quickstudy train` made, or one of {', '.join(shipped_names())}."
    )
