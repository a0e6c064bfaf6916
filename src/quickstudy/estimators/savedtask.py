"""Floor 6: an adapted estimator in a folder: what was learned, from what, and by whom.

task.json             labels, how examples are read, which learner
support.safetensors   the labelled examples, as the learner reads them
state.safetensors     what they taught it
learner/              the learner, where it does not come with the package; see ``saved.py``
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from quickstudy.errors import InputError, QuickstudyError
from quickstudy.estimators import inputs
from quickstudy.estimators.arrayreader import ArrayReader
from quickstudy.estimators.choosing import Chosen, made, of_saved, of_shipped
from quickstudy.estimators.fewshot import AbstractFewShot, place_learner
from quickstudy.estimators.inputs import AbstractReader
from quickstudy.estimators.scaling import moments
from quickstudy.estimators.tablereader import TableReader
from quickstudy.files import atomic_write_bytes, places, replaced_folder
from quickstudy.learners.states import load_state, save_state
from quickstudy.saved import SavedLearner
from quickstudy.sealed import broken, seal, unseal
from quickstudy.shipped import shipped

__all__ = ["is_task", "read_task", "write_task"]

SCHEMA = 1
_WHAT, _ABOUT, _SUPPORT, _STATE, _LEARNER = "task", "task.json", "support.safetensors", "state.safetensors", "learner"
_LABELS = (bool, int, float, str, type(None))
_READERS: dict[str, type[AbstractReader]] = {
    cls.__name__: cls
    for cls in (
        *(inputs.RowReader, inputs.PictureReader, inputs.InkReader, inputs.SoundReader, inputs.TextReader),
        *(TableReader, ArrayReader),
    )
}


def is_task(path: Path) -> bool:
    """Whether a folder holds a saved task."""
    return (path / _ABOUT).is_file()


def write_task(folder: Path, model: AbstractFewShot) -> None:
    """Write an estimator that was fitted, whole or not at all; a saved task that is there already is replaced.

    Raises:
        InputError: the folder holds something else, a label has no place in JSON, or the learner is of a class or a
            network that no recipe names.
        StorageError: the disk refused.
    """
    if folder.exists() and not is_task(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"Cannot save a task to {folder}: something else is there. Give a new or an empty folder.")
    labels = model.labels_.tolist() if isinstance(model.labels_, np.ndarray) else list(model.labels_)
    labels = [label.item() if isinstance(label, np.number | np.bool_ | np.str_) else label for label in labels]
    odd = next((label for label in labels if not isinstance(label, (*_LABELS, list))), None)
    if odd is not None:
        raise InputError(
            f"Cannot save a task with the label {odd!r} ({type(odd).__name__}): a file can keep text, numbers, true, "
            "false and none. Give the classes names."
        )
    parts = model.support_ if isinstance(model.support_, dict) else {"x": model.support_}
    support = save_tensors({name: leaf.cpu().contiguous() for name, leaf in parts.items()})
    with replaced_folder(folder) as new:
        atomic_write_bytes(new / _SUPPORT, support)
        save_state(new / _STATE, model.state_, model.chosen_.learner)
        about: dict[str, Any] = {
            "schema": SCHEMA,
            "quickstudy": version("quickstudy"),
            "estimator": type(model).__name__,
            "kind": model.kind_,
            "labels": labels,
            "array": isinstance(model.labels_, np.ndarray) and model.labels_.dtype != object,
            "leaves": sorted(parts) if isinstance(model.support_, dict) else None,
            "reader": {"name": type(model.reader_).__name__, **model.reader_.settings},
            "learner": _learner(model.chosen_, new / _LEARNER),
            "auto": isinstance(model.learner, str) and model.learner == "auto",
            "params": {name: value for name, value in model.get_params().items() if name not in ("learner", "device")},
            "names": list(model.names_),
            "columns": list(model.columns_),
        }
        seal(new, _ABOUT, about, (_SUPPORT, _STATE))


def _learner(chosen: Chosen, folder: Path) -> dict[str, Any]:
    about = {"name": chosen.name, "why": chosen.why}
    if chosen.shipped is not None:
        return about | {"shipped": chosen.shipped, "sha256": shipped(chosen.shipped).digest}
    if chosen.made is not None:
        return about | {"made": chosen.made} | ({} if chosen.digest is None else {"sha256": chosen.digest})
    if chosen.saved is None:
        raise InputError(
            f"Cannot save a task of {chosen.name}: it was given as an object, and no recipe says how it is made. Train "
            "it by a recipe and give the folder of the run, or of the saved learner."
        )
    chosen.saved.save(folder)
    return about | {"folder": True}


def read_task(folder: Path, model_of: Mapping[str, type[AbstractFewShot]], device: str = "cpu") -> AbstractFewShot:
    """Read what :func:`write_task` wrote.

    Args:
        folder: of the task.
        model_of: the estimators by name.
        device: where it shall compute.

    Raises:
        InputError: no task is there, or there is a pickle in it.
        CheckpointError: a file is missing, cut off or was changed.
    """
    found = places(folder)
    if not found or not is_task(found[0]):
        raise InputError(
            f"There is no saved task at {folder}: it holds no {_ABOUT}. Name a folder that `quickstudy learn` "
            "or `save` wrote."
        )
    place = found[0]
    about = unseal(place, _ABOUT, SCHEMA, _WHAT)
    try:
        chosen = _chosen(about["learner"], place, about["estimator"])
        asked = "auto" if about.get("auto") else _asked(chosen, place)
        model = model_of[about["estimator"]](learner=asked, device=device, **about["params"])
        settings = dict(about["reader"])
        model.kind_, model.chosen_ = about["kind"], chosen
        model.reader_ = _READERS[settings.pop("name")](**settings)
        tensors = load_tensors((place / _SUPPORT).read_bytes())
        model.support_ = tensors if about["leaves"] is not None else tensors["x"]
        model.scale_ = moments(model.support_) if isinstance(model.support_, Tensor) and model.kind_ == "rows" else None
        model.names_, model.columns_ = about["names"], tuple(about["columns"])
        model.labels_ = np.array(about["labels"]) if about["array"] else about["labels"]
        _, model.target_, _ = model._understood(model.labels_)
        place_learner(chosen, model.kind_, device)
        model.state_ = load_state(place / _STATE, chosen.learner, device)
        if model.kind_ == "rows":
            model.n_features_in_ = settings["columns"] if "columns" in settings else settings["shape"][0]
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        if isinstance(error, QuickstudyError):
            raise
        raise broken(_WHAT, place, f"{_ABOUT} does not describe a task that can be read here ({error})") from error
    return model


def _chosen(about: Mapping[str, Any], place: Path, estimator: str) -> Chosen:
    name, why = about["name"], about["why"]
    if "shipped" in about:
        chosen = of_shipped(about["shipped"], why)
    elif "made" in about:
        chosen = made(about["made"], "classes" if estimator == "FewShotClassifier" else "real", why)
    else:
        return of_saved(SavedLearner.load(place / _LEARNER), name, why)
    if chosen.digest != about.get("sha256"):
        what = "" if chosen.saved is None else " of another version of quickstudy"
        said = f"it was learned by the learner {name!r}{what}, whose weights were others"
        raise broken(_WHAT, place, said)
    return chosen


def _asked(chosen: Chosen, place: Path) -> Any:
    return chosen.shipped or chosen.made or str(place / _LEARNER)
