"""Stand-ins for what peers import and do not need here (torchvision, h5py, qpth, pandas)."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ABSENT = ("torchvision", "h5py", "qpth", "cvxpy", "pandas")


class Stub(ModuleType):
    """A module that has every public name: an empty class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__module__": self.__name__})


class Stubs(MetaPathFinder, Loader):
    """Finds stand-ins for the absent packages and all that is in them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] in ABSENT else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Stub(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        del module


def install() -> None:
    """Stand-ins for those that are really absent."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(Stubs())
