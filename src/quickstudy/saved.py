"""Floor 6: a trained learner in a folder of its own, of use where neither the run nor its data are.

    learner.json          the recipe, the shape of its tasks, what was measured, who may use it
    weights.safetensors   its weights and buffers
    README.md             the same for people: a model card, as the Hugging Face hub shows it

Nothing in it is ever unpickled; digests tell a file that was cut off or changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from quickstudy import exporting
from quickstudy.data.source import TaskShape
from quickstudy.errors import InputError, QuickstudyError
from quickstudy.evaluate import Result
from quickstudy.exportfile import write
from quickstudy.files import atomic_write_bytes, replaced_folder
from quickstudy.learners.learner import AbstractLearner
from quickstudy.modelcard import model_card
from quickstudy.recipes import Recipe
from quickstudy.recipes.building import build_learner
from quickstudy.runs import Which, learner_of, open_run, recipe_of, results_of, shape_from, shape_of, which_checkpoint
from quickstudy.sealed import broken, seal, unseal
from quickstudy.train.checkpoint import Checkpoint, load_weights

__all__ = ["FILES", "SavedLearner", "is_saved"]

SCHEMA = 1
FILES = ("learner.json", "weights.safetensors", "README.md")
_WHAT, _ABOUT, _WEIGHTS, _CARD = "learner", "learner.json", "weights.safetensors", "README.md"


def is_saved(path: Path) -> bool:
    """Whether a folder holds a saved learner."""
    return (path / _ABOUT).is_file()


@dataclass(frozen=True, eq=False, repr=False)
class SavedLearner:
    """A trained learner, and what whoever gets it must know.

    Args:
        learner: in eval mode, on the CPU.
        recipe: that it was trained by.
        shape: of its tasks.
        results: what was measured, newest last.
        licence: an SPDX identifier of the weights' licence, such as ``"CC-BY-4.0"``; None: nobody said.
        calibration: what ``quickstudy.estimators`` measured on validation tasks, as JSON; empty: nothing.
    """

    learner: AbstractLearner
    recipe: Recipe
    shape: TaskShape
    results: tuple[Result, ...] = ()
    licence: str | None = None
    calibration: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        """In a line, where a dataclass would show each layer of the network and each number that was measured."""
        measured = f", {self.results[-1]}" if self.results else ""
        return f"SavedLearner({self.recipe.learner.name}, by {self.recipe.name}{measured})"

    @cached_property
    def digest(self) -> str:
        """Hex digest of the weights: the same for two that say the same."""
        return hashlib.sha256(save_tensors(_tensors(self.learner))).hexdigest()

    @staticmethod
    def of_run(run: str | Path, *, checkpoint: Which | None = None, licence: str | None = None) -> SavedLearner:
        """The learner of a run.

        Args:
            run: the path of a run's folder.
            checkpoint: ``"best"`` or ``"last"``; by default the best, where the run was validated.
            licence: see the class.

        Raises:
            InputError: there is no such run.
            CheckpointError: its checkpoint is missing or broken.
        """
        folder = open_run(Path(run))
        recipe, which = recipe_of(folder), checkpoint or which_checkpoint(folder)
        results = tuple(result for result in results_of(folder) if result.checkpoint in ("", which))
        return SavedLearner(learner_of(folder, recipe, which), recipe, shape_of(folder, which), results, licence)

    def save(self, folder: str | Path) -> None:
        """Write it, whole or not at all; a saved learner that is there already is replaced.

        Raises:
            InputError: the folder holds something else.
            StorageError: the disk refused.
        """
        place = Path(folder)
        if place.exists() and not is_saved(place) and (not place.is_dir() or any(place.iterdir())):
            raise InputError(
                f"Cannot save a learner to {place}: something else is there. Give a new or an empty folder."
            )
        about: dict[str, Any] = {
            "schema": SCHEMA,
            "quickstudy": version("quickstudy"),
            "recipe": self.recipe.model_dump(mode="json", exclude_none=True),
            "shape": {name: value for name, value in asdict(self.shape).items() if value is not None},
            "results": [json.loads(result.to_json()) for result in self.results],
            "licence": self.licence,
            "calibration": dict(self.calibration or {}),
        }
        with replaced_folder(place) as new:
            atomic_write_bytes(new / _WEIGHTS, save_tensors(_tensors(self.learner)))
            atomic_write_bytes(new / _CARD, model_card(self.recipe, self.learner, self.results, self.licence).encode())
            seal(new, _ABOUT, about, (_WEIGHTS,))  # not the card, which people may add to

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload it to the Hugging Face hub; whoever may read it there can load it by :meth:`from_pretrained`.

        Args:
            repo_id: ``"user/name"``; made where it is not there.
            options: of ``huggingface_hub.ModelHubMixin.push_to_hub``, such as ``private=True``.

        Returns:
            The address of the commit.

        Raises:
            InputError: ``huggingface_hub`` is not installed, or the hub refused, or cannot be reached.
        """
        from quickstudy.hublearner import push

        return push(self, repo_id, **options)

    @staticmethod
    def from_pretrained(name: str | Path, **options: Any) -> SavedLearner:
        """A learner from the Hugging Face hub, or from a folder that :meth:`save` wrote.

        Args:
            name: ``"user/name"``, or a folder.
            options: of ``huggingface_hub.ModelHubMixin.from_pretrained``, such as ``revision="v1"``.

        Raises:
            InputError: ``huggingface_hub`` is not installed, there is no such learner, the hub cannot be reached, or
                there is a pickle in it.
            CheckpointError: a file is missing, or was changed.
        """
        from quickstudy.hublearner import from_hub

        return from_hub(name, **options)

    def export_onnx(self, path: str | Path, *, way: int | None = None) -> float:
        """Write its network as ONNX (examples in, features out), or itself whole, for a number of classes.

        Whole, the inputs are ``support`` and ``labels`` (int64, 0 .. way - 1, of each class one or more) and ``query``,
        and the output is ``logits``. Pictures go in as 8 bits, ``[n, H, W]`` or ``[n, 3, H, W]``; a spectrogram, and
        the mean and deviation of a pretrained network's pictures, are part of the graph. The number of examples is
        free. How they are read stands in the file's metadata, as JSON under ``quickstudy``. The file is compared before
        it is written, by onnxruntime.

        Args:
            path: of the file; one that is there is replaced.
            way: classes, for the learner whole; None: features.

        Returns:
            By how much it was off at most, in parts of 1 or of the largest number.

        Raises:
            InputError: a package is missing, it has no network, or what it computes is no graph of tensors.
            RunError: the file says something else.
        """
        return write(self._exported(way), path, "onnx")

    def export_torch(self, path: str | Path, *, way: int | None = None) -> float:
        """The same for ``torch.export.load``; the metadata is its extra file ``quickstudy.json``.

        Args:
            path: of the file, which usually ends in ``.pt2``.
            way: see :meth:`export_onnx`.
        """
        return write(self._exported(way), path, "torch")

    def _exported(self, way: int | None) -> exporting.Exported:
        about: dict[str, Any] = {"name": self.recipe.name, "learner": self.recipe.learner.name, "licence": self.licence}
        example = self.shape.example
        about["example"] = {k: list(v) for k, v in example.items()} if isinstance(example, dict) else list(example)
        known = ("rate", "tokenizer", "length", "mean", "deviation", "columns", "kind", "size", "seconds")
        about |= {"data": {name: self.recipe.data.options[name] for name in known if name in self.recipe.data.options}}
        name = f"the learner {self.recipe.name!r}"
        if way is not None:
            return exporting.learner(name, self.learner, way, _examples(self), about)
        net = _network(self.learner)
        if net is None:
            raise InputError(
                f"Cannot export the features of {name}: a {self.recipe.learner.name} has no network that makes "
                "features of one example. Export a task that it has learned."
            )
        return exporting.features(name, net, _examples(self), about)

    @staticmethod
    def load(folder: str | Path) -> SavedLearner:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: no saved learner is there, or there is a pickle in it.
            CheckpointError: a file is missing, cut off or was changed.
        """
        place = Path(folder)
        if not is_saved(place):
            raise InputError(
                f"There is no saved learner at {place}: it holds no {_ABOUT}. Name a folder that `save` wrote."
            )
        about = unseal(place, _ABOUT, SCHEMA, _WHAT)
        try:
            recipe = Recipe.model_validate(about["recipe"], strict=False, by_name=True)
            shape = shape_from(about["shape"])
            results = tuple(Result.from_json(json.dumps(result), str(place)) for result in about["results"])
            learner = build_learner(recipe, shape)
            weights = load_tensors((place / _WEIGHTS).read_bytes())
        except (KeyError, TypeError, ValueError, OSError, SafetensorError, QuickstudyError) as error:
            raise broken(
                _WHAT, place, f"{_ABOUT} does not describe a learner that can be built here ({error})"
            ) from error
        load_weights(learner, Checkpoint(weights, {}, {}), place)
        return SavedLearner(learner.eval(), recipe, shape, results, about.get("licence"), about.get("calibration"))


def _network(learner: AbstractLearner) -> nn.Module | None:
    """The network that makes features of examples, wherever the learner keeps it."""
    nets = (getattr(module, "net", None) for module in learner.modules())
    return next((net for net in nets if isinstance(net, nn.Module)), None)


def _examples(saved: SavedLearner) -> dict[str, Tensor]:
    """Inputs as they are read, ``[2, ...]``: pictures of 8 bits, tokens, or numbers."""
    shape, draw = saved.shape, torch.Generator().manual_seed(0)
    if isinstance(shape.example, dict):
        most = shape.vocabulary or 2
        sizes = {name: size for name, size in shape.example.items() if name != "text"}
        found = {name: torch.randint(0, most, (2, *size), generator=draw) for name, size in sizes.items()}
        if "attention_mask" in found:
            length = found["attention_mask"].shape[1]
            found["attention_mask"] = (torch.arange(length) < torch.tensor([[length], [1 + length // 2]])).long()
        return found
    read = saved.recipe.data.options.get("kind", "pictures") if saved.recipe.data.name == "arrays" else "pictures"
    if len(shape.example) == 3 and shape.example[0] in (1, 3) and read == "pictures":
        size = shape.example[1:] if shape.example[0] == 1 else shape.example
        return {"x": torch.randint(0, 256, (2, *size), generator=draw, dtype=torch.uint8)}
    return {"x": torch.randn(2, *shape.example, generator=draw)}


def _tensors(learner: AbstractLearner) -> dict[str, Tensor]:
    return {name: leaf.detach().cpu().contiguous().clone() for name, leaf in learner.state_dict().items()}
