"""Floor 5: recommendation's comparison: MovieTweetings, by the number of ratings that are known of a user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from quickstudy.data.ratingtasks import RatingTasks
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.domains.recommendation.biases import GlobalMean, ItemMean, UserItemBias
from quickstudy.domains.recommendation.factors import ItemNeighbours, MatrixFactorisation
from quickstudy.domains.study import Column, Found, Rival, Study
from quickstudy.errors import InputError
from quickstudy.evaluate import Result, Section
from quickstudy.evaluate.figures import Drawing, Theme, drawing, dress, legend
from quickstudy.evaluate.wording import number
from quickstudy.learners.learner import AbstractLearner

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from quickstudy.data.ratingpast import Past

__all__ = ["rating_curve", "recommendation"]

SUPPORTS = (1, 3, 5, 10)


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
    cold = Section(
        "Items never seen in training",
        text=(
            "Mean absolute error on items that no training user had rated before the cut, over the users who were "
            "asked for such. What is known of them is their year and genres.",
        ),
        head=("", *found.sources),
        rows=[(name, *(_unseen(result) for result in each)) for name, each in results.items()],
    )
    return (curve, cold)


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
            axes.plot(supports, values, color=colour, label=name, marker="o", ms=3, linewidth=2.2 if first else 1.3)
        dress(axes, theme, "mean absolute error", grid="y")
        axes.set_xticks(list(supports))
        axes.set_xlabel("ratings known of a user", color=theme.ink)
        legend(axes, theme)

    spoken = " ".join(
        f"{name}: {number(values[0], 'mae')} with {supports[0]}, {number(values[-1], 'mae')} with {supports[-1]}."
        for name, values in errors.items()
    )
    return drawing(draw, (5.4, 3.6), f"Rating curve: mean absolute error against ratings known of a user. {spoken}")
