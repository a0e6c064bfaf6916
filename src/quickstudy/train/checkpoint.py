"""Floor 4: checkpoints, written so that a loadable one is always there.

A checkpoint is a folder of ``weights.safetensors`` (the learner's and the optimiser's tensors) and
``state.json`` (all else, and the SHA-256 of the weights). A new one is written beside the old and renamed into
place; at any moment at least one whole checkpoint stands, under its name, as ``.new`` or as ``.old``.
Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from quickstudy.errors import CheckpointError
from quickstudy.files import atomic_write_bytes, places, replaced_folder
from quickstudy.train.runfolder import version_of

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint holds.

    Args:
        learner: the learner's state dict, as it is used.
        optimizer: ``"<parameter>/<key>"`` -> tensor of the outer optimiser.
        state: JSON: step, best validation, who made it.
        moved: the weights that the optimiser moves, where those that are used are an average of them; else empty.
    """

    learner: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    moved: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at ``folder`` by this one, whole or not at all.

    Raises:
        StorageError: the disk refused; the previous checkpoint still loads.
    """
    tensors = {f"learner.{name}": _plain(value) for name, value in checkpoint.learner.items()}
    tensors |= {f"optimizer.{name}": _plain(value) for name, value in checkpoint.optimizer.items()}
    tensors |= {f"moved.{name}": _plain(value) for name, value in checkpoint.moved.items()}
    weights = save_tensors(tensors)
    state = checkpoint.state | {"schema": SCHEMA, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    state["state_sha256"] = _state_digest(state)
    with replaced_folder(folder) as new:
        # The state comes last: where it stands, the weights that it names are whole.
        atomic_write_bytes(new / "weights.safetensors", weights)
        atomic_write_bytes(new / "state.json", json.dumps(state, indent=1, sort_keys=True).encode() + b"\n")


def load_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint at ``folder``, or the one that a killed run left beside it.

    Raises:
        CheckpointError: none there, or none that is whole.
    """
    problems = []
    for place in _written(folder):
        try:
            return _read(place)
        except CheckpointError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    raise CheckpointError(f"There is no checkpoint at {folder}. Train first, or name another run.")


def has_checkpoint(folder: Path) -> bool:
    """Whether there is anything to load."""
    return bool(_written(folder))


def _written(folder: Path) -> list[Path]:
    """Where one may lie, the best first; not where a run was killed before its first one was whole."""
    return [place for place in places(folder) if place == folder or (place / "state.json").is_file()]


def load_weights(learner: nn.Module, checkpoint: Checkpoint, where: Path) -> None:
    """Put a checkpoint's weights into a learner of the same shape.

    Raises:
        CheckpointError: it belongs to another learner; names the first difference.
    """
    mine = learner.state_dict()
    for name in sorted(mine.keys() | checkpoint.learner.keys()):
        if name not in checkpoint.learner:
            problem = f"it has no {name!r}"
        elif name not in mine:
            problem = f"it holds {name!r}, which {type(learner).__name__} has not"
        elif mine[name].shape != checkpoint.learner[name].shape:
            problem = f"its {name!r} is {list(checkpoint.learner[name].shape)}, not {list(mine[name].shape)}"
        else:
            continue
        raise CheckpointError(
            f"The checkpoint {where} is not of this learner: {problem}. Use the recipe that it was trained with."
        )
    learner.load_state_dict(checkpoint.learner)


def _read(place: Path) -> Checkpoint:
    def broken(why: str) -> CheckpointError:
        return CheckpointError(f"Cannot load the checkpoint {place}: {why}. Use another checkpoint, or train again.")

    try:
        state = json.loads((place / "state.json").read_bytes())
        weights = (place / "weights.safetensors").read_bytes()
    except FileNotFoundError as error:
        raise broken(f"{Path(str(error.filename)).name} is missing") from error
    except ValueError as error:
        raise broken("state.json is cut off or no JSON") from error
    except OSError as error:
        raise broken(str(error.strerror)) from error
    if not isinstance(state, dict) or not isinstance(state.get("schema"), int):
        raise broken("state.json is none that quickstudy wrote")
    if state["schema"] != SCHEMA:
        raise CheckpointError(_of_another_format(place, state))
    if hashlib.sha256(weights).hexdigest() != state.get("weights_sha256"):
        raise broken("weights.safetensors is cut off or was changed (its SHA-256 is not the one in state.json)")
    if _state_digest(state) != state.get("state_sha256"):
        raise broken("state.json was changed (its SHA-256 is not the one that it holds)")
    try:
        tensors = load_tensors(weights)
    except SafetensorError as error:
        raise broken(f"weights.safetensors is no safetensors file ({error})") from error
    learner, optimizer, moved = (_under(part, tensors) for part in ("learner.", "optimizer.", "moved."))
    return Checkpoint(learner, optimizer, state, moved)


def _of_another_format(place: Path, state: dict[str, Any]) -> str:
    made_by = state.get("made_by")
    of = made_by.get("quickstudy") if isinstance(made_by, dict) else None
    mine = versions()["quickstudy"]
    age, advice = (
        ("a newer", "Upgrade quickstudy") if state["schema"] > SCHEMA else ("an older", "Install that version")
    )
    return (
        f"Cannot load the checkpoint {place}: its format is number {state['schema']}, of {age} quickstudy"
        f"{f' ({of})' if of else ''}, and this one ({mine}) reads number {SCHEMA}. {advice}, or train again."
    )


def versions() -> dict[str, str]:
    """Whose steps a checkpoint holds."""
    return {"quickstudy": version_of("quickstudy"), "torch": str(torch.__version__)}


def _state_digest(state: dict[str, Any]) -> str:
    content = {name: value for name, value in state.items() if name != "state_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _plain(value: Tensor) -> Tensor:
    # A clone: safetensors refuses tensors that share memory, and channels-last strides would be lost anyway.
    return value.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)


def optimizer_tensors(learner: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter name (numbers as 0-d tensors)."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in learner.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def restore_optimizer(learner: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` took."""
    named = dict(learner.named_parameters())
    for name, value in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        parameter = named[parameter_name]
        # torch keeps a step counter on the CPU, and all else beside its parameter, in its precision.
        if key == "step":
            optimizer.state[parameter][key] = value.clone()
        else:
            kind = parameter.dtype if value.is_floating_point() else value.dtype
            optimizer.state[parameter][key] = value.to(parameter.device, kind, copy=True)
