"""Floor 3: what a task taught a learner, moved between devices, written to a file and read again.

A state is made of tensors, plain values, and dataclasses, dicts, lists and tuples of those. In a file the tensors stand
as safetensors and the rest as JSON in its header; nothing is pickled, so reading a file runs no code of its own.
"""

from __future__ import annotations

import importlib
import json
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
    if isinstance(state, (list, tuple)):
        return type(state)(map_state(function, part) for part in state)
    if is_dataclass(state) and not isinstance(state, type):
        return type(state)(**{part.name: map_state(function, getattr(state, part.name)) for part in fields(state)})
    raise InputError(
        f"A state is made of tensors, plain values, and dataclasses, dicts, lists and tuples of those; found a "
        f"{type(state).__name__}. Keep tensors in it instead."
    )


def move_state(state: Any, device: torch.device | str) -> Any:
    """The same state on ``device``."""
    return map_state(lambda leaf: leaf.to(device), state)


def save_state(path: str | Path, state: Any) -> None:
    """Write a state to one file, atomically.

    Args:
        path: of the file.
        state: what ``adapt`` returned.

    Raises:
        InputError: it cannot be written.
        StorageError: the disk refused.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_skeleton(state, tensors))
    # Expanded tensors share their memory, which the format does not know.
    whole = {name: leaf.detach().cpu().contiguous().clone() for name, leaf in tensors.items()}
    atomic_write_bytes(Path(path), save(whole, {_HEADER: skeleton}))


def load_state(path: str | Path, learner: AbstractLearner, device: torch.device | str = "cpu") -> Any:
    """Read a state that :func:`save_state` wrote.

    Args:
        path: of the file.
        learner: whose state it is. Only classes of quickstudy and of the learner's own package are built.
        device: where its tensors shall lie.

    Raises:
        InputError: no such file, or not a state of this learner.
    """
    packages = {"quickstudy", type(learner).__module__.split(".")[0]}
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            skeleton = json.loads((file.metadata() or {})[_HEADER])
            return _rebuilt(skeleton, file.get_tensor, packages)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, ImportError) as error:
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
    if isinstance(state, dict):
        return {"dict": {name: _skeleton(part, tensors) for name, part in state.items()}}
    if isinstance(state, (list, tuple)):
        return {type(state).__name__: [_skeleton(part, tensors) for part in state]}
    if is_dataclass(state) and not isinstance(state, type):
        parts = {part.name: _skeleton(getattr(state, part.name), tensors) for part in fields(state)}
        return {"class": f"{type(state).__module__}:{type(state).__qualname__}", "fields": parts}
    return map_state(lambda leaf: leaf, state)  # says what is wrong


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
    found = getattr(importlib.import_module(module), name) if module.split(".")[0] in packages else None
    if not (isinstance(found, type) and is_dataclass(found)):
        raise ValueError(f"it is made of {node['class']}, which is no part of {' or '.join(sorted(packages))}")
    return found(**{name: _rebuilt(part, tensor, packages) for name, part in node["fields"].items()})
