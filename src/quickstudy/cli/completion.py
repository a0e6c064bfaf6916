"""Floor 7: ``quickstudy completion``: the shell finishes commands, options, and names of learners, recipes and data.

The shell runs ``quickstudy`` at each press of the key, with what was typed in the environment; nothing here may import
torch.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["claim_names", "completion", "data_names", "learner_names", "recipe_names", "start_completion"]

_PROGRAM, _ASKED = "quickstudy", "_QUICKSTUDY_COMPLETE"
_PLAIN = (
    "auto",
    "knn",
    "logistic",
    "ridge",
    "tf-idf",
    "words-ridge",
    "minilm-logistic",
    "minilm-ridge",
    "mfcc-knn",
    "mfcc-logistic",
)


class Shell(StrEnum):
    """Shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.")]) -> None:
    """Print a script that lets a shell finish what is typed: eval "$(quickstudy completion bash)" in ~/.bashrc."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # from a private module

    typer.echo(get_completion_script(prog_name=_PROGRAM, complete_var=_ASKED, shell=shell.value))


def start_completion() -> None:
    """Make ready to answer, where it is the shell that asks."""
    if _ASKED in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # likewise

        completion_init()


def learner_names(incomplete: str) -> list[str]:
    """Learners that need no training of one's own, or were trained before."""
    import quickstudy

    shipped = (Path(quickstudy.__file__).parent / "shipped").iterdir()
    names = [*_PLAIN, *sorted(path.name for path in shipped if (path / "learner.json").is_file())]
    return [name for name in names if name.startswith(incomplete)]


def recipe_names(incomplete: str) -> list[str]:
    """Recipes that ship, and those of other packages."""
    from quickstudy.recipes import recipes

    return [name for name in recipes.names() if name.startswith(incomplete)]


def claim_names(incomplete: str) -> list[str]:
    """Published figures that can be reproduced."""
    import tomllib

    import quickstudy

    files = sorted((Path(quickstudy.__file__).parent / "reproduce" / "claims").glob("*.toml"))
    claims = [claim for file in files for claim in tomllib.loads(file.read_text(encoding="utf-8"))["claims"]]
    return [claim["name"] for claim in claims if claim["name"].startswith(incomplete)]


def data_names(incomplete: str) -> list[str]:
    """Data sets that can be fetched."""
    from quickstudy.data.published import PUBLISHED

    return [name for name in sorted(PUBLISHED) if name.startswith(incomplete)]
