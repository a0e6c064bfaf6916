"""Floor 5: from a recipe to objects: the data set, its task sources, the learner with its network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quickstudy.data.batches import BatchSource
from quickstudy.data.counts import Count
from quickstudy.data.dataset import DataSet
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.errors import InputError
from quickstudy.files import data_root as default_data_root
from quickstudy.keys import Key
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes.parts import PROVIDED, REGISTRIES, arguments, needs, takes
from quickstudy.recipes.schema import Part, Recipe, TaskSize

__all__ = ["TEST_SEED", "Built", "build", "build_data", "build_learner", "test_tasks"]

TEST_SEED = 0
_BATCH = 64  # rows a step of a learner that is trained on plain labelled batches, where [train] says nothing


@dataclass(frozen=True, eq=False)
class Built:
    """What a recipe describes.

    Args:
        recipe: the recipe itself.
        data: its data set.
        train: the tasks to train on.
        validation: the tasks to validate on; None when the recipe does not validate.
        learner: untrained, on the CPU, in the recipe's precision.
        batches: the plain labelled batches to train on instead of tasks, for a learner that is trained so.
        pretrain: those of the first phase, where there is one.
    """

    recipe: Recipe
    data: DataSet
    train: TaskSource
    validation: TaskSource | None
    learner: AbstractLearner
    batches: BatchSource | None = None
    pretrain: BatchSource | None = None


def build(
    recipe: Recipe, data_root: Path | None = None, as_trained: Callable[[DataSet], DataSet] = lambda data: data
) -> Built:
    """Everything that a recipe describes.

    Args:
        recipe: from ``load_recipe``.
        data_root: where data sets lie; by default ``data.path`` of the recipe, else as ``files.data_root`` says.
        as_trained: makes of the data what a run that goes on read when it began.

    Raises:
        InputError: a size or an option does not fit the data or the network.
        DataError: the data is missing, incomplete or corrupt.
    """
    data = as_trained(build_data(recipe, data_root))
    train = _tasks(data, recipe.train.role, recipe.episodes.train, recipe.seed)
    validation = None
    if recipe.train.validate_every:
        size = recipe.episodes.validation or recipe.episodes.test
        validation = _tasks(data, "validation", size, recipe.seed)
    learner = build_learner(recipe, train.shape)
    check_phases(recipe, learner)
    batches = train.batches(recipe.train.batch or _BATCH) if learner.traits.phases[-1] == "batches" else None
    pretrain = None if recipe.pretrain is None else train.batches(recipe.pretrain.batch)
    return Built(recipe, data, train, validation, learner, batches, pretrain)


def check_phases(recipe: Recipe, learner: AbstractLearner) -> None:
    """Whether [pretrain] and [train] say what the learner is trained on.

    Raises:
        InputError: a phase that the learner does not have, or an option of the other kind of training.
    """
    name, phases = recipe.learner.name, learner.traits.phases
    if recipe.pretrain is not None and len(phases) < 2:
        if phases == ("batches",):
            raise InputError(
                f"The learner {name!r} is trained on plain labelled batches in [train] already. Remove the table "
                "[pretrain], and say in [train] how many steps and how large a batch."
            )
        raise InputError(
            f"The learner {name!r} is trained on tasks alone, not on plain labelled batches before. Remove the table "
            "[pretrain]."
        )
    if recipe.pretrain is None and phases == ("batches", "batches"):
        raise InputError(
            f"The learner {name!r}, with these options, is trained twice on plain labelled batches: add a table "
            "[pretrain] for the first time."
        )
    if phases[-1] == "batches" and (recipe.train.tasks_per_step != 1 or recipe.train.tasks_at_once is not None):
        raise InputError(
            f"The learner {name!r} is trained on plain labelled batches, not on tasks: instead of tasks-per-step and "
            "tasks-at-once, say train.batch, the rows a step."
        )
    if phases[-1] == "episodes" and recipe.train.batch is not None:
        raise InputError(
            f"The learner {name!r} is trained on tasks, not on plain labelled batches: instead of train.batch, say "
            "train.tasks-per-step."
        )


def build_data(recipe: Recipe, data_root: Path | None = None) -> DataSet:
    """The recipe's data set; see :func:`build`."""
    cls = REGISTRIES["data"].get(recipe.data.name)
    options = arguments("data", cls, recipe.data.options)
    if takes(cls, "root"):
        path = options.pop("path", None)
        options["root"] = default_data_root(data_root or (None if path is None else Path(path)))
    data_set: DataSet = cls(**options)
    return data_set


def test_tasks(
    recipe: Recipe,
    data: DataSet,
    *,
    role: str | None = None,
    way: Count | None = None,
    shot: Count | None = None,
    query: Count | None = None,
    dirichlet: float | None = None,
    seed: int = TEST_SEED,
) -> TaskSource:
    """The tasks to be tested on; what is not given is as the recipe says, or as the data says where it is fixed there.

    Args:
        recipe: from ``load_recipe``.
        data: its data set.
        role: ``"test"`` or ``"validation"``.
        way: classes a task.
        shot: support examples a class.
        query: query examples a class.
        dirichlet: concentration of the classes' shares of the queries; 0 leaves it out: as many of each class.
        seed: of the tasks. By default not the recipe's, so that runs of other seeds are tested on the same tasks
            and can be compared in pairs.
    """
    size, role = recipe.episodes.test, role or recipe.evaluate.role
    if role in recipe.train.role.split("+"):
        raise InputError(
            f"Cannot test on the role {role!r}: the recipe trains on {recipe.train.role!r}, and the result would be of "
            "classes that training has seen. Use role 'test'."
        )
    fixed: dict[str, int] = dict(getattr(data, "fixed", lambda role: {})(role))
    if fixed:
        size = size.model_copy(update={**fixed, "dirichlet": None})
    given = {"way": way, "shot": shot, "query": query, "dirichlet": dirichlet}
    size = size.model_copy(update={name: value for name, value in given.items() if value is not None})
    return _tasks(data, role, size, seed)


def build_learner(recipe: Recipe, shape: TaskShape) -> AbstractLearner:
    """The recipe's learner, its weights drawn from the recipe's seed; the global generators stay as they are.

    Args:
        recipe: from ``load_recipe``.
        shape: of the tasks that it is to learn.

    Returns:
        The learner on the CPU, in the recipe's precision.
    """
    key = Key.of(recipe.seed, "initial weights")
    given = {**_sizes(shape), "seed": recipe.seed}
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed the generators of GPUs, and those are not forked here.
        torch.default_generator.manual_seed(key.value >> 1)
        if recipe.net is not None:
            net = _build_part("net", recipe.net, given)
            if not isinstance(net, nn.Module):
                raise InputError(f"The network {recipe.net.name!r} is a {type(net).__name__}, not a torch.nn.Module.")
            given["net"] = net
        learner = _build_part("learner", recipe.learner, given)
    if not isinstance(learner, AbstractLearner):
        raise InputError(f"The learner {recipe.learner.name!r} is a {type(learner).__name__}, not an AbstractLearner.")
    return learner.to(torch.float64) if recipe.train.precision == "float64" else learner


def _tasks(data: DataSet, role: str, size: TaskSize, seed: int) -> TaskSource:
    uneven: dict[str, Any] = {"dirichlet": size.dirichlet} if size.dirichlet else {}
    if uneven and "dirichlet" not in inspect.signature(data.tasks).parameters:
        raise InputError(
            f"Cannot draw queries of {data.name} from a Dirichlet distribution: it does not offer that, because its "
            "tasks have no classes or it was not written for it. Leave dirichlet out."
        )
    return data.tasks(role, way=size.way, shot=size.shot, query=size.query, seed=seed, **uneven)


def _sizes(shape: TaskShape) -> dict[str, Any]:
    """What constructors may ask for by name, read off the tasks; a size that the tasks do not have is left out."""
    sizes: dict[str, Any] = {"outputs": shape.outputs, "target": shape.target, "example": shape.example}
    if shape.classes is not None:
        sizes["classes"] = shape.classes
    if shape.vocabulary is not None:
        sizes["vocabulary"] = shape.vocabulary
    if shape.environment is not None:
        sizes["environment"] = shape.environment
    if isinstance(shape.example, dict):
        return sizes
    features = 1
    for length in shape.example:
        features *= length
    sizes["in_features"] = features
    if len(shape.example) == 3 and shape.example[1] == shape.example[2]:
        sizes |= {"in_channels": shape.example[0], "image_size": shape.example[1]}
    return sizes


def _build_part(table: str, part: Part, given: dict[str, Any]) -> Any:
    cls = REGISTRIES[table].get(part.name)
    wanted = {name: given[name] for name in PROVIDED[table] if name in given and takes(cls, name)}
    for name in PROVIDED[table]:
        # A network for pictures may have a usual size, which is not that of tasks that are no pictures.
        if name not in given and (needs(cls, name) or (name in ("in_channels", "image_size") and takes(cls, name))):
            raise InputError(_cannot_build(REGISTRIES[table].kind, part.name, name, given["example"]))
    return cls(**wanted, **arguments(table, cls, part.options))


def _cannot_build(kind: str, name: str, missing: str, example: Any) -> str:
    if missing in ("in_channels", "image_size"):
        return (
            f"The {kind} {name!r} is made for square pictures, but one example of these tasks has the shape "
            f"{example}. Use another network, such as 'mlp'."
        )
    if missing == "environment":
        return (
            f"The {kind} {name!r} acts in an environment, and these tasks, with examples of shape {example}, have "
            "none. Use a data set of environments, such as 'point-navigation'."
        )
    return (
        f"The {kind} {name!r} cannot be built: it needs {missing}, which these tasks, with examples of shape "
        f"{example}, do not have. Use another {kind}."
    )
