"""Floor 7: how a command ends: an exit status, and one sentence on stderr instead of a traceback.

0 done, 1 failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn, TextIO

import typer

from quickstudy.errors import InputError, QuickstudyError

__all__ = ["run_to_exit_status"]

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_TASKS_AT_ONCE = {"evaluate": "--tasks-at-once", **dict.fromkeys(("train", "sweep"), "--train.tasks-at-once")}
"""Command -> the option that bounds its memory."""


def run_to_exit_status(app: typer.Typer, arguments: Sequence[str] | None) -> None:
    """Run the application and leave with its status.

    Args:
        app: with the commands.
        arguments: without the program's name; None for those that it was started with. With ``--debug`` among
            them, errors keep their tracebacks.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    shown = warnings.showwarning
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show, shown)
            status = app(arguments, prog_name="quickstudy", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted.")
        _leave(INTERRUPTED)
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        sentence, status = _explain(error, next((word for word in arguments if not word.startswith("-")), ""))
        _say(f"error: {sentence}")
        _leave(status)
    if status == INTERRUPTED:  # typer's own answer to Ctrl-C
        _say("interrupted.")
    _leave(status if isinstance(status, int) else DONE)


def _leave(status: int) -> NoReturn:
    """End the process.

    A group of ranks that was not left, because of an error, has threads that let go of tensors when they are done. One
    that does so while the interpreter is being taken down ends in an abort instead of ``status``, so that it is not
    taken down then.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # there is none; nobody reads it any more; it is closed
                stream.flush()
        os._exit(status)
    sys.exit(status)


def _explain(error: Exception, command: str) -> tuple[str, int]:
    """What to say of an error of a command, and the exit status."""
    usage = getattr(error, "format_message", None)  # typer's own: a misspelt command or option, a missing argument
    if usage is not None:
        return _usage_sentence(error), BAD_INPUT
    if isinstance(error, QuickstudyError):
        return str(error), BAD_INPUT if isinstance(error, InputError) else FAILED
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"The system refused: {error.strerror or error}{where}.", FAILED
    if _is_out_of_memory(error):
        option = _TASKS_AT_ONCE.get(command)
        if option is None:
            return "There is not enough memory. Close other programs, or take a machine that has more.", FAILED
        return f"There is not enough memory. Compute fewer tasks at once: {option} 1.", FAILED
    what = f"{type(error).__name__}: {error}".rstrip(".")
    return f"This should not happen: {what}. Run it again with --debug to see where, and report it.", FAILED


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if type(error) is not RuntimeError:  # so that few errors wait for torch to load
        return False
    from quickstudy.train.scarce import is_out_of_memory

    return is_out_of_memory(error)


def _usage_sentence(error: Exception) -> str:
    message = error.format_message().strip().replace("Value error, ", "")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    message += "" if message.endswith((".", "?", "!")) else "."
    return f"{message} See `{context.command_path if context else 'quickstudy'} --help`."


def _show(
    shown: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Stands in for ``warnings.showwarning``: what is meant for users is a sentence, without a line of code."""
    if category is UserWarning:
        _say(f"warning: {message}")
    else:
        shown(message, category, filename, lineno, file, line)


def _say(text: str) -> None:
    typer.echo(text, err=True)
