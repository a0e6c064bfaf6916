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
from collections.abc import Iterable


class QuickstudyError(Exception):
    """Root of quickstudy's own errors."""


class InputError(QuickstudyError, ValueError):
    """Something handed in cannot be used."""


class UnknownName(InputError):
    """A name that nothing is registered under."""

    @staticmethod
    def among(kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """The error for ``name``, suggesting the nearest of ``known``."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return UnknownName(f"There is no {kind} called {name!r}. {hint}Known: {', '.join(names) or 'none'}.")


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
