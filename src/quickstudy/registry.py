"""Floor 0: names to objects. The only place in the library where a string becomes a class or function.

A registry holds ``"module:attribute"`` addresses, imported when asked for, so that listing names costs
nothing and an optional dependency is met only by those who use it. Outside packages join through an
entry-point group of the same name.
"""

from __future__ import annotations

import importlib
import warnings
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from quickstudy.errors import InputError, UnknownName


class Registry:
    """Objects by name: those that ship, and those that installed packages add.

    Args:
        kind: what messages call an entry, such as ``"learner"``.
        group: the entry-point group that outside packages use.
        own: name -> ``"module:attribute"`` of the entries that ship.
    """

    def __init__(self, kind: str, group: str, own: dict[str, str]) -> None:
        self.kind, self.group, self._own = kind, group, own

    @cached_property
    def _outside(self) -> dict[str, EntryPoint]:
        points = {point.name: point for point in entry_points(group=self.group)}
        for name in sorted(points.keys() & self._own.keys()):
            package = points[name].dist
            warnings.warn(
                f"The installed package {package.name if package else '?'!r} announces a {self.kind} called {name!r}, "
                "a name that quickstudy ships; it is not used. Give it another name.",
                stacklevel=3,
            )
        return points

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self._own, *self._outside})

    def shipped(self) -> list[str]:
        """Names of what ships with quickstudy, sorted."""
        return sorted(self._own)

    def get(self, name: str) -> Any:
        """The object called ``name``. What ships cannot be replaced from outside.

        Raises:
            UnknownName: nothing is registered under that name; the message suggests the nearest.
            InputError: an outside package announces the name but cannot be imported.
        """
        if name in self._own:
            module, attribute = self._own[name].split(":")
            return getattr(importlib.import_module(module), attribute)
        if name not in self._outside:
            raise UnknownName.among(self.kind, name, self.names())
        point = self._outside[name]
        try:
            return point.load()
        except Exception as error:  # whatever an outside package raises while it is imported
            raise InputError(
                f"The {self.kind} {name!r} of the installed package {point.dist.name if point.dist else '?'!r} "
                f"cannot be imported from {point.value!r}: {error!r}. Mend or uninstall that package."
            ) from error
