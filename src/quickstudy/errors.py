"""Floor 0: the errors a user can meet.

    QuickstudyError                 the root; its message is one clear sentence or two
    ├── InputError                  something handed in cannot be used (exit status 2)
    │   ├── UnknownName             no such learner, net, data set, recipe, option; names the nearest
    │   └── DataError               files missing, cut off, corrupt, or not what they should be
    └── RunError                    the work itself failed (exit status 1)
        ├── CheckpointError         a checkpoint that cannot be loaded
        ├── NonFiniteLoss           training diverged
        └── StorageError            the disk refused a write

Messages say what cannot be done, why, what was received and what to do.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


def in_words(error: BaseException) -> str:
    """What code that is not ours raised, and where: ``"ValueError: no (arm.py, line 12)"``; ours as it reads."""
    if isinstance(error, QuickstudyError):
        return str(error).rstrip(".")
    said, ours = f"{type(error).__name__}: {error}".rstrip(". :"), str(Path(__file__).parent)
    files = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    files = [(file, line) for file, line in files if not file.startswith(ours) and "importlib" not in file]
    return f"{said} ({Path(files[-1][0]).name}, line {files[-1][1]})" if files else said


class QuickstudyError(Exception):
    """Root of quickstudy's own errors."""


class InputError(QuickstudyError, ValueError):
    """Something handed in cannot be used."""


_MANY = 60


class UnknownName(InputError):
    """A name that nothing is registered under."""

    @staticmethod
    def among(kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """The error for ``name``, suggesting the nearest of ``known``."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        known_ones = "Known: "
        if len(names) > _MANY:  # a screen of names hides the sentence
            known_ones = f"Of {len(names)} known the nearest: "
            names = difflib.get_close_matches(name, names, n=5, cutoff=0.0)
        return UnknownName(f"There is no {kind} called {name!r}. {hint}{known_ones}{', '.join(names) or 'none'}.")


class DataError(InputError):
    """Data that is missing, incomplete, corrupt or foreign."""


class RunError(QuickstudyError, RuntimeError):
    """The work itself failed."""


class CheckpointError(RunError):
    """A checkpoint that cannot be loaded."""


class NonFiniteLoss(RunError):
    """The training loss became NaN or infinite."""


class StorageError(RunError):
    """The disk refused a write; what was there before is still there."""
