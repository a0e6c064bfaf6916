"""Floor 6: papers' figures as rows of another kind, from the claims of ``quickstudy reproduce``.

The one place of this room that knows what a claim looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from quickstudy.data.counts import Count
from quickstudy.data.source import TaskShape
from quickstudy.evaluate import Result
from quickstudy.leaderboard.entry import Provenance
from quickstudy.recipes import Recipe, recipe_hash
from quickstudy.recipes.building import build_data, build_learner
from quickstudy.reproduce import Claim, claims

__all__ = ["Published", "Rerun", "claimed", "data_of", "data_of_claim", "is_of_claim", "published"]

_CLASSES = 100  # in training, of learners that have an output for each: their traits are the same whatever the number


@dataclass(frozen=True)
class Rerun:
    """What somebody else got who ran the method; fractions where the metric is one."""

    mean: float
    ci95: float | None
    source: str
    note: str


@dataclass(frozen=True)
class Published:
    """A figure that a paper prints, of a task; never one that was measured here.

    Args:
        name: of the claim.
        title: the method and the task.
        learner: what the method is called here.
        metric: of ``quickstudy.metrics``.
        mean: as results have it: a fraction where the metric is one.
        ci95: half-width of its interval; None where the paper prints none.
        source: the paper, and where in it.
        transductive: its protocol is.
        data: name and options of the data set, as in the recipe.
        split: of its classes, as results call it.
        way: classes a task.
        shot: support examples a class.
        reruns: independent ones.
    """

    name: str
    title: str
    learner: str
    metric: str
    mean: float
    ci95: float | None
    source: str
    transductive: bool
    data: dict[str, Any]
    split: str
    way: Count | None
    shot: Count | None
    reruns: tuple[Rerun, ...] = ()


def data_of(recipe: Recipe) -> dict[str, Any]:
    """Name and options of a recipe's data set, but for where it lies."""
    options = {name: value for name, value in recipe.data.options.items() if name != "path"}
    return {"name": recipe.data.name, **options}


@cache
def published() -> tuple[Published, ...]:
    """All figures of papers that were verified; see ``reproduce/claims/``."""
    return tuple(_of(one) for one in claims().values() if one.published is not None)


@cache
def data_of_claim(name: str) -> dict[str, Any] | None:
    """:func:`data_of` of a claim's recipe; None where there is no such claim any more."""
    found = claims().get(name)
    return None if found is None else data_of(found.recipe_of(0))


def is_of_claim(about: Provenance) -> bool:
    """Whether a row is of no claim, or of the protocol that its claim has now.

    Of a claim that does not ship, and of a row that states no protocol, nobody can say, and it is taken.
    """
    known = None if about.claim is None else claims().get(about.claim)
    return known is None or about.protocol in (None, known.protocol(about.seed or 0))


def claimed(name: str, trained: Recipe, result: Result) -> dict[str, str]:
    """What a row says of a claim whose recipe it was trained by, and that it was tested as; nothing of any other.

    Args:
        name: of the claim.
        trained: recipe of the run.
        result: of its test.
    """
    known = claims().get(name)
    if known is None or recipe_hash(known.recipe_of(trained.seed)) != recipe_hash(trained):
        return {}
    sizes = {size: getattr(result, size) for size in ("way", "shot", "query")}
    as_claimed = recipe_hash(known.recipe_of(trained.seed, tested=True)) == result.recipe_hash
    if not as_claimed or sizes != known.tested_sizes or result.metric != known.metric:
        return {}
    return {"claim": name, "protocol": known.protocol(trained.seed)}


def _of(one: Claim) -> Published:
    assert one.published is not None
    recipe = one.recipe_of(0)
    sizes, told = one.tested_sizes, one.published
    split, role = recipe.data.options.get("split"), recipe.evaluate.role
    return Published(
        name=one.name,
        title=one.title,
        learner=recipe.learner.name,
        metric=one.metric,
        mean=_fraction(told.mean, one.unit),
        ci95=None if told.ci95 is None else _fraction(told.ci95, one.unit),
        source=one.source,
        transductive=_transductive(one.recipe_of(0, tested=True)),
        data=data_of(recipe),
        split=role if split is None else f"{split}/{role}",
        way=sizes["way"],
        shot=sizes["shot"],
        reruns=tuple(
            Rerun(
                _fraction(rerun.mean, one.unit),
                None if rerun.ci95 is None else _fraction(rerun.ci95, one.unit),
                rerun.source,
                rerun.note,
            )
            for rerun in one.reruns
        ),
    )


def _fraction(printed: float, unit: float) -> float:
    return round(printed / unit, 8)  # 96.2 % is 0.962


def _transductive(recipe: Recipe) -> bool:
    size = recipe.episodes.train
    way = size.way if isinstance(size.way, int) else None
    target: Literal["classes", "real"] = "real" if recipe.episodes.test.way is None else "classes"
    shape = TaskShape(build_data(recipe).shape, target, way or 1, _CLASSES if target == "classes" else None)
    return build_learner(recipe, shape).traits.transductive
