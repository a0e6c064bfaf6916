"""Floor 6: the recipe that a ``MetaLearner`` stands for, so that what it trained can be built again elsewhere."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from quickstudy.errors import InputError, UnknownName
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.registry import learners
from quickstudy.recipes import Recipe
from quickstudy.recipes.load import parse_recipe
from quickstudy.recipes.parts import needs, takes
from quickstudy.recipes.schema import kebab

if TYPE_CHECKING:
    from quickstudy.estimators.meta import MetaLearner
    from quickstudy.estimators.metatasks import MetaTasks

__all__ = ["check_trainable", "recipe_for"]

_LEARNERS = {"classes": "protonet", "real": "acnp"}
_NETS = {"rows": "mlp", "arrays": "mlp", "pictures": "conv4", "sounds": "sound-conv4"}
_HIDDEN = [64, 64]


def recipe_for(options: MetaLearner, tasks: MetaTasks) -> Recipe:
    """The recipe of these options on these tasks.

    Raises:
        UnknownName: there is no such learner or network, or it has no such option.
        InputError: an option makes no sense.
    """
    name = _LEARNERS[tasks.meaning] if options.learner == "auto" else options.learner
    if not isinstance(name, str) or name not in learners.names():
        raise UnknownName.among("learner", str(name), ["auto", *learners.names()])
    cls = learners.get(name)
    of_learner = dict(options.learner_options or {})
    if tasks.meaning == "classes" and "shared" in _heads(cls):
        of_learner.setdefault("head", "shared")  # of any number of classes
    episodes: dict[str, Any] = {"shot": list(tasks.shot), "query": int(options.query)}
    if tasks.way is not None:
        episodes["way"] = list(tasks.way)
    tables: dict[str, Mapping[str, Any]] = {"learner": {"name": name, **of_learner}}
    net = _net(options, cls, tasks)
    if net is not None:
        tables["net"] = net
    tables |= {
        "data": _data(tasks),
        "episodes.train": episodes,
        "train": {"steps": int(options.steps), "tasks_per_step": int(options.tasks_per_step), "lr": options.lr}
        | {"schedule": {"name": "cosine"}},
    }
    head = {"name": "meta-learner", "seed": int(options.seed)}
    text = "\n".join([_lines(head), *(f"[{table}]\n{_lines(values)}" for table, values in tables.items())])
    return parse_recipe(text, source="MetaLearner")


def _heads(cls: type) -> tuple[str, ...]:
    """The heads that a learner may have."""
    found = inspect.signature(cls, eval_str=True).parameters.get("head")
    return get_args(found.annotation) if found is not None else ()


def _net(options: MetaLearner, cls: type, tasks: MetaTasks) -> dict[str, Any] | None:
    name = options.net
    if name == "auto":
        name = _NETS[tasks.about.kind] if needs(cls, "net") else None
        if tasks.about.kind in ("pictures", "sounds") and takes(cls, "net"):
            name = _NETS[tasks.about.kind]
    if name is None:
        if options.net_options:
            raise InputError(
                "There are net_options, but no network to have them. Name one with net=, or leave them out."
            )
        return None
    given = dict(options.net_options or {})
    if options.net == "auto" and name == "mlp":
        given.setdefault("hidden", _HIDDEN)
    if name == "sound-conv4":
        given.setdefault("rate", tasks.about.rate)
    return {"name": name, **given}


def _data(tasks: MetaTasks) -> dict[str, Any]:
    about = tasks.about
    found: dict[str, Any] = {"name": "arrays", "kind": about.kind, "digest": about.digest}
    for field in ("columns", "mean", "deviation", "target_mean", "target_deviation"):
        value = getattr(about, field)
        if value:
            found[field] = list(value)
    return found | ({"rate": about.rate} if about.kind == "sounds" else {"white": about.white})


def _lines(table: Mapping[str, Any]) -> str:
    try:
        return "".join(f"{kebab(str(key))} = {_value(value)}\n" for key, value in table.items())
    except (TypeError, ValueError) as error:
        raise InputError(f"Options must be numbers, texts, true, false or lists of those: {error}.") from error


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{kebab(str(key))} = {_value(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value.item() if hasattr(value, "item") else value, allow_nan=False)


def check_trainable(learner: AbstractLearner, name: str) -> None:
    """Whether a learner can be trained on tasks, and used by an estimator.

    Raises:
        InputError: it has nothing to train, is trained on plain labelled batches, acts in environments, or is
            transductive.
    """
    traits = learner.traits
    if not traits.trainable:
        raise InputError(
            f"The learner {name!r} has nothing to train: use it as it is, FewShotClassifier(learner={name!r}), or take "
            "one that is meta-trained, such as 'protonet'."
        )
    if traits.phases != ("episodes",):
        raise InputError(
            f"The learner {name!r} is trained on plain labelled batches of classes that all tasks share, and these "
            "tasks have each its own. Take one that is trained on tasks, such as 'protonet' or 'maml'."
        )
    if traits.transductive:
        raise InputError(
            f"The learner {name!r}, with these options, is transductive: what it says of one example depends on those "
            "beside it, which an estimator may not. Take an inductive one."
        )
