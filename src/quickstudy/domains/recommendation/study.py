"""Floor 5: recommendation's comparison: MovieTweetings, by the number of ratings that are known of a user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.ratingtasks import RatingTasks
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.domains.recommendation.biases import GlobalMean, ItemMean, UserItemBias
from quickstudy.domains.recommendation.factors import ItemNeighbours, MatrixFactorisation
from quickstudy.domains.study import Column, Found, Rival, Study
from quickstudy.errors import InputError
from quickstudy.evaluate import Result, Section
from quickstudy.evaluate.figures import Drawing, Theme, drawing, dress, legend
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.evaluate.wording import number
from quickstudy.learners.learner import AbstractLearner

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from quickstudy.data.ratingpast import Past

__all__ = ["rating_curve", "recommendation"]

SUPPORTS = (1, 3, 5, 10)
RATED = (0, 1, 3, 10, 30, 100)
"""Where groups of items begin, by how many past ratings they have."""
DAYS = (0, 15, 30, 45)
"""Where groups of ratings begin, by the days from what is known of items to the rating."""

Floats: TypeAlias = NDArray[np.float64]


def recommendation() -> Study:
    """MeLU's manner beside the field's baselines. Settings of all were chosen on validation users, before the cut."""
    return Study(
        name="recommendation",
        recipe="movietweetings-maml-fast",
        plain="movietweetings-fine-tune-fast",
        rivals=(
            Rival("global mean", lambda shape, training: GlobalMean()),
            Rival("item mean", lambda shape, training: ItemMean(past_of(training), weight=2.0)),
            Rival("user and item bias", _bias),
            Rival("matrix factorisation", lambda shape, training: MatrixFactorisation(past_of(training))),
            Rival("item neighbours", _neighbours),
        ),
        columns=tuple(Column(f"{n} rating{'s' * (n > 1)}", {"shot": n}) for n in SUPPORTS),
        episodes=250,  # different test users, of 508: the intervals are over users
        sections=_sections,
        notes=(
            "Every test user is cold: none of their ratings is part of the past from which statistics, baselines and "
            "learners were made.",
            "Who is tested has rated at least 13 films, three or more of them after the cut; most people rate fewer.",
            "Ratings that people chose to tweet; nothing is said of films that nobody rated.",
        ),
    )


def past_of(training: TaskSource) -> Past:
    """What baselines are fitted to: training users' ratings before the cut.

    Raises:
        InputError: the tasks are not made of ratings.
    """
    if not isinstance(training, RatingTasks):
        raise InputError(
            f"The baselines of recommendation are fitted to ratings, received {type(training).__name__}. Use the data "
            "set 'ratings' or 'movietweetings'."
        )
    return training.past


def _bias(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    return UserItemBias(past_of(training), item_weight=3.0, user_weight=4.0)


def _neighbours(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    return ItemNeighbours(past_of(training), item_weight=3.0, user_weight=4.0, doubt=10.0)


def _sections(found: Found) -> Sequence[Section]:
    """The rating curve, and known items apart from those that nobody had rated."""
    results = {name: list(each.values()) for name, each in found.results.items()}
    curve = Section(
        "Rating curve",
        text=("Mean absolute error in the ratings' own units against the number of ratings known of a user.",),
        drawings=(rating_curve({name: [one.mean for one in each] for name, each in results.items()}),),
    )
    first = next(iter(results.values()))[0]
    unseen = first.others.get("mae-unseen")
    asked = 0 if unseen is None else sum(value is not None for value in unseen.per_episode)
    cold = Section(
        "Items never seen in training",
        text=(
            f"Mean absolute error on items that no training user had rated before the cut, over the {asked} of "
            f"{first.episodes} users who were asked for such. What is known of them is their year and genres.",
        ),
        head=("", *found.sources),
        rows=[(name, *(_unseen(result) for result in each)) for name, each in results.items()],
    )
    return (curve, cold, *_where(found, first.episodes))


def _where(found: Found, episodes: int) -> Sequence[Section]:
    """Errors by what was known of an item, and by how long ago that was, with the largest support."""
    column, source = list(found.sources.items())[-1]
    assert isinstance(source, RatingTasks)
    learners = {next(iter(found.results)): found.learner, **found.rivals}
    asked = source.asked(range(episodes))
    errors = {name: errors_of(learner, source, episodes) for name, learner in learners.items()}
    text = f"{column} of each user. Mean absolute error and, in brackets, what was said less what came."
    return [
        Section(title, (text,), head=("", *heads), rows=rows)
        for title, (heads, rows) in (
            ("Errors by the past ratings of an item", by_group(errors, asked.rated, RATED, "past ratings")),
            ("Errors by the days after the cut", by_group(errors, asked.since / 86_400, DAYS, "days")),
        )
    ]


def errors_of(learner: AbstractLearner, source: RatingTasks, episodes: int) -> Floats:
    """What was said less what came, in the ratings' own units, ``[episodes, Nq]``; NaN on padding."""
    episode = source.episodes(range(episodes))
    assert episode.query.y is not None
    with evaluating(learner):
        said = answer(learner, episode)
    error = ((said - episode.query.y)[..., 0].double() * source.past.std).numpy()
    return np.where(episode.query.real.numpy(), error, np.nan)


def by_group(
    errors: Mapping[str, Floats], values: Floats, begins: Sequence[int], what: str
) -> tuple[list[str], list[tuple[str, ...]]]:
    """A table's head and rows: each method's errors in groups of ratings; see :func:`errors_of`.

    Args:
        errors: method -> ``[T, Nq]``.
        values: ``[T, Nq]``, what ratings are grouped by; NaN on padding.
        begins: the least value of each group, rising.
        what: the values are, for the head.
    """
    ends = [*begins[1:], float("inf")]
    groups = [(values >= low) & (values < high) for low, high in zip(begins, ends, strict=True)]
    names = [_span(low, high) for low, high in zip(begins, ends, strict=True)]
    head = [f"{name} {what}, {group.sum()} asked" for name, group in zip(names, groups, strict=True)]
    return head, [(name, *(_error(each[group]) for group in groups)) for name, each in errors.items()]


def _span(low: int, high: float) -> str:
    return f"{low} or more" if high == float("inf") else f"{low}" if high == low + 1 else f"{low} to {high - 1:g}"


def _error(errors: Floats) -> str:
    if not errors.size:
        return "-"
    return f"{number(float(np.abs(errors).mean()), 'mae')} ({errors.mean():+.2f})"


def _unseen(result: Result) -> str:
    other = result.others.get("mae-unseen")
    return "-" if other is None else f"{number(other.mean, 'mae')} ± {number(other.ci95, 'mae')}"


def rating_curve(errors: Mapping[str, Sequence[float]], supports: Sequence[int] = SUPPORTS) -> Drawing:
    """Error against known ratings, a line a method.

    Args:
        errors: method -> mean absolute error at each support.
        supports: how many ratings were known.
    """

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (name, values) in enumerate(errors.items()):
            first = place == 0
            colour = theme.lines[place % len(theme.lines)]
            style = "-" if place < len(theme.lines) else "--"
            width = 2.2 if first else 1.3
            axes.plot(supports, values, style, color=colour, label=name, marker="o", ms=3, linewidth=width)
        dress(axes, theme, "mean absolute error", grid="y")
        axes.set_xticks(list(supports))
        axes.set_xlabel("ratings known of a user", color=theme.ink)
        legend(axes, theme)

    spoken = " ".join(
        f"{name}: {number(values[0], 'mae')} with {supports[0]}, {number(values[-1], 'mae')} with {supports[-1]}."
        for name, values in errors.items()
    )
    return drawing(draw, (5.4, 3.6), f"Rating curve: mean absolute error against ratings known of a user. {spoken}")
