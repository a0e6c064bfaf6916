"""Floor 0: packages that can be called.

``quickstudy.train`` is the room of the training engine, and users also write ``quickstudy.train(recipe)``. A
package of that name hides a function of that name as soon as anyone imports it, so the package itself has to
answer the call: it hands it to the function of its name in ``quickstudy.api``.

This is the one place that looks upwards, from floor 4 to floor 6, and it does so when called, not when imported.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module whose call is the call of the function of the same name in ``quickstudy.api``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See the function in :mod:`quickstudy.api`."""
        function = getattr(importlib.import_module("quickstudy.api"), self.__name__.rpartition(".")[2])
        return function(*args, **kwargs)


def make_callable(module_name: str) -> None:
    """Let the module ``module_name`` be called; ``make_callable(__name__)`` at the end of its file.

    Assigning ``__class__`` is how Python lets a module change its type (PEP 549's accepted alternative, in the
    language reference under "customizing module attribute access").
    """
    sys.modules[module_name].__class__ = CallableModule
