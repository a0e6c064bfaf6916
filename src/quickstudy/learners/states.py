"""Floor 3: what a task taught a learner, moved between devices, written to a file and read again.

A state is made of tensors, plain values, and dataclasses, dicts, lists and tuples of those. In a file the tensors stand
as safetensors and the rest as JSON in its header; nothing is pickled, and reading a file imports nothing: the classes
it names must be those of a learner that is already there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.files import atomic_write_bytes
from quickstudy.learners.learner import AbstractLearner

__all__ = ["load_state", "map_state", "move_state", "save_state"]

_PLAIN = (bool, int, float, str, type(None))
_HEADER = "quickstudy_state"


def map_state(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """The same state with ``function`` applied to each tensor.

    Args:
        function: of one tensor.
        state: what ``adapt`` returned.

    Raises:
        InputError: it holds something that is neither a tensor nor made of tensors and plain values.
    """
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, _PLAIN):
        return state
    if isinstance(state, dict):
        return {name: map_state(function, part) for name, part in state.items()}
    if type(state) in (list, tuple):
        return type(state)(map_state(function, part) for part in state)
    if is_dataclass(state) and not isinstance(state, type):
        return type(state)(**{part.name: map_state(function, getattr(state, part.name)) for part in fields(state)})
    raise _no_state(state)


def move_state(state: Any, device: torch.device | str) -> Any:
    """The same state on ``device``."""
    return map_state(lambda leaf: leaf.to(device), state)


def save_state(path: str | Path, state: Any, learner: AbstractLearner) -> None:
    """Write a state to one file, atomically.

    Args:
        path: of the file.
        state: what ``adapt`` returned.
        learner: whose state it is.

    Raises:
        InputError: it cannot be written.
        StorageError: the disk refused.
    """
    tensors: dict[str, Tensor] = {}
    header = {"learner": _name(type(learner)), "state": _skeleton(state, tensors)}
    # Expanded tensors share their memory, which the format does not know.
    whole = {name: leaf.detach().cpu().contiguous().clone() for name, leaf in tensors.items()}
    atomic_write_bytes(Path(path), save(whole, {_HEADER: json.dumps(header)}))


def load_state(path: str | Path, learner: AbstractLearner, device: torch.device | str = "cpu") -> Any:
    """Read a state that :func:`save_state` wrote.

    Args:
        path: of the file.
        learner: whose state it is, of the class that it was saved for.
        device: where its tensors shall lie.

    Raises:
        InputError: no such file, or not a state of this learner.
    """
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            if header["learner"] != _name(type(learner)):
                raise ValueError(f"it is of a {header['learner'].partition(':')[2]}")
            packages = {"quickstudy", type(learner).__module__.split(".")[0]}
            return _rebuilt(header["state"], file.get_tensor, packages)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"Cannot read a state from {path}: {error}. "
            f"Use a file that save_state wrote for a {type(learner).__name__}."
        ) from error


def _skeleton(state: Any, tensors: dict[str, Tensor]) -> Any:
    """``state`` as JSON, its tensors put into ``tensors`` and named by their number."""
    if isinstance(state, Tensor):
        tensors[str(len(tensors))] = state
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(state, _PLAIN):
        return {"value": state}
    if isinstance(state, dict) and all(isinstance(name, str) for name in state):
        return {"dict": {name: _skeleton(part, tensors) for name, part in state.items()}}
    if type(state) in (list, tuple):
        return {type(state).__name__: [_skeleton(part, tensors) for part in state]}
    if is_dataclass(state) and not isinstance(state, type):
        parts = {part.name: _skeleton(getattr(state, part.name), tensors) for part in fields(state)}
        return {"class": _name(type(state)), "fields": parts}
    raise _no_state(state)


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _no_state(state: Any) -> InputError:
    return InputError(
        f"A state is made of tensors, plain values, and dataclasses, dicts with text for keys, lists and tuples of "
        f"those; found a {type(state).__name__}. Keep tensors in it instead."
    )


def _rebuilt(node: Any, tensor: Callable[[str], Tensor], packages: set[str]) -> Any:
    """What :func:`_skeleton` described."""
    if "tensor" in node:
        return tensor(node["tensor"])
    if "value" in node:
        return node["value"]
    if "dict" in node:
        return {name: _rebuilt(part, tensor, packages) for name, part in node["dict"].items()}
    for kind in (list, tuple):
        if kind.__name__ in node:
            return kind(_rebuilt(part, tensor, packages) for part in node[kind.__name__])
    module, _, name = node["class"].partition(":")
    known = sys.modules.get(module) if module.split(".")[0] in packages else None
    found = getattr(known, name, None)
    if not (isinstance(found, type) and is_dataclass(found)):
        raise ValueError(f"it is made of {node['class']}, which is no part of {' or '.join(sorted(packages))}")
    return found(**{name: _rebuilt(part, tensor, packages) for name, part in node["fields"].items()})
