"""Floor 7: the command line.

One file a command, each a function that typer reads; heavy modules are imported inside the functions, so that
``--help`` does not wait for torch. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from quickstudy import __version__
from quickstudy.allocator import keep_large_blocks
from quickstudy.cli.advise import advise
from quickstudy.cli.completion import completion, start_completion
from quickstudy.cli.convert import convert
from quickstudy.cli.demo import demo
from quickstudy.cli.doctor import doctor
from quickstudy.cli.evaluate import evaluate
from quickstudy.cli.export import export
from quickstudy.cli.fetch import fetch
from quickstudy.cli.leaderboard import leaderboard
from quickstudy.cli.learn import add, inspect, learn, predict
from quickstudy.cli.list import list_names
from quickstudy.cli.outcome import run_to_exit_status
from quickstudy.cli.report import report
from quickstudy.cli.reproduce import reproduce
from quickstudy.cli.runs import runs
from quickstudy.cli.serve import serve
from quickstudy.cli.show import show
from quickstudy.cli.sweep import sweep
from quickstudy.cli.train import train

__all__ = ["app", "main"]

# Options that no command knows are keys of a recipe (`--learner.inner-lr 0.2`).
_TAKES_KEYS = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    name="quickstudy",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Meta-learning: train once over many tasks, then learn a new one from a handful of examples."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


app.command()(fetch)
app.command()(convert)
app.command(context_settings=_TAKES_KEYS)(train)
app.command(context_settings=_TAKES_KEYS)(evaluate)
app.command(context_settings=_TAKES_KEYS)(sweep)

app.command()(learn)
app.command()(predict)
app.command()(add)
app.command()(inspect)
app.command()(export)
app.command()(advise)

app.command()(serve)

app.command()(demo)
app.command()(completion)
app.command(context_settings=_TAKES_KEYS)(doctor)
app.command("list")(list_names)
app.command(context_settings=_TAKES_KEYS)(show)
app.command()(runs)
app.command()(report)
app.command()(reproduce)
app.command(context_settings=_TAKES_KEYS)(leaderboard)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad input, 130 interrupted.

    Args:
        arguments: without the program's name; by default those that it was started with.
    """
    start_completion()
    keep_large_blocks()
    if "" not in sys.path:
        sys.path.append("")  # the current folder, for an environment of one's own; last, so that it hides no package
    run_to_exit_status(app, arguments)
