"""Floor 5: the recipes that ship, as attributes: ``shipped.<name>`` is the path of ``<name>.toml`` beside this file.

A registry wants ``"module:attribute"`` addresses; here the attribute is found by looking (PEP 562), so that a new
recipe is one TOML file and nothing else.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["names"]

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """All of them, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def __getattr__(name: str) -> Path:
    path = _FOLDER / f"{name}.toml"
    if name.startswith("__") or not path.is_file():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return path
