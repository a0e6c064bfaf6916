"""Floor 5: the demo: meta-train on letters, meta-test on handwritten digits, beside honest baselines.

ProtoNet and MAML are meta-trained by the recipes ``glyphs-protonet-fast`` and ``glyphs-maml-fast`` on letters drawn
from fonts. Then they learn scikit-learn's real handwritten digits, classes and a domain that they have never seen,
from one and from five examples of each. k-nearest neighbours and logistic regression on the pixels, and MAML's network
trained from scratch on each support set, learn the same tasks. Every setting was chosen on letters held out of
training, none on digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from quickstudy.data.digits import Digits
from quickstudy.data.source import TaskSource
from quickstudy.evaluate import (
    Comparison,
    Curve,
    Entry,
    EpisodePicture,
    Result,
    cell_name,
    compare,
    meta_test,
    picture_episode,
    write_report,
)
from quickstudy.learners import KNN, Logistic
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes.building import TEST_SEED, build, build_learner
from quickstudy.recipes.fitting import curves_of, fit_built
from quickstudy.recipes.load import load_recipe
from quickstudy.recipes.schema import Recipe
from quickstudy.recipes.workers import News, Tell, run_jobs, tell
from quickstudy.recipes.write import recipe_hash
from quickstudy.train import History, Silent, StepEvent
from quickstudy.train.runfolder import describe_environment

__all__ = ["DemoSize", "run_demo"]

WAY, QUERY = 5, 15
SHOTS = (1, 5)
RECIPES = {"MAML": "glyphs-maml-fast", "ProtoNet": "glyphs-protonet-fast"}
# As the other settings: the best of three rates on held-out letters.
SCRATCH = {"learner.name": "scratch", "learner.steps": 30, "learner.lr": 0.01}


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Args:
        episodes: tasks of each number of shots.
        scratch_episodes: of them, those that the network from scratch learns, which takes long.
        overrides: of both recipes, for a shorter demo.
    """

    episodes: int = 600
    scratch_episodes: int = 100
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Finding:
    """What a job brings home."""

    name: str
    results: dict[str, Result]
    baseline: bool = False
    curves: tuple[Curve, ...] = ()
    picture: EpisodePicture | None = None
    recipe: Recipe | None = None


def run_demo(
    report: Path, *, size: DemoSize | None = None, listen: Tell | None = None, prepare: Any = None
) -> Comparison:
    """Run the demo in two processes and write its report.

    Args:
        report: the HTML file to write.
        size: how much to do.
        listen: told how far the jobs are.
        prepare: called in each process before it works; a function of a module.

    Returns:
        The table: learners and baselines at 5-way 1-shot and 5-shot.

    Raises:
        StorageError: the disk refused the cache or the report.
    """
    size = size or DemoSize()
    # The longest first, so that the two processes end at about the same time.
    jobs = [
        *(partial(_meta_learn, name, size) for name in RECIPES),
        partial(_from_scratch, size),
        partial(_on_pixels, "k-nearest neighbours", size),
        partial(_on_pixels, "logistic regression", size),
    ]
    findings = run_jobs(jobs, at_once=2, listen=listen or (lambda news: None), prepare=prepare)
    table = compare([Entry(finding.name, finding.results, finding.baseline) for finding in findings])
    _write(report, table, findings)
    return table


# --- jobs, each in a process -------------------------------------------------------------------------


class _TellSteps(Silent):
    """Tells of each step."""

    def __init__(self, who: str) -> None:
        self._who = who

    def step(self, event: StepEvent) -> None:
        tell(News(self._who, event.step, event.steps, "steps"))


def _meta_learn(name: str, size: DemoSize) -> _Finding:
    recipe = load_recipe(RECIPES[name], size.overrides)
    built = build(recipe)
    history = History()
    fit_built(built, callbacks=[history, _TellSteps(name)])
    validations = [
        {"step": event.step, f"validation_{event.result.metric}": event.result.value} for event in history.validations
    ]
    results = _test(built.learner, name, size.episodes, recipe_hash(recipe))
    return _Finding(
        name,
        results,
        curves=tuple(curves_of([*history.steps, *validations], name)),
        picture=_picture(built.learner, name),
        recipe=recipe,
    )


def _from_scratch(size: DemoSize) -> _Finding:
    """MAML's network, with the norm of gradient-based learners, on each support set alone."""
    recipe = load_recipe(RECIPES["MAML"], SCRATCH)
    learner = build_learner(recipe, _digits(1).shape)
    name = "trained from scratch"
    episodes = min(size.scratch_episodes, size.episodes)
    return _Finding(name, _test(learner, name, episodes, recipe_hash(recipe)), baseline=True)


def _on_pixels(name: str, size: DemoSize) -> _Finding:
    learner = KNN() if name.startswith("k-nearest") else Logistic()
    return _Finding(name, _test(learner, name, size.episodes), baseline=True)


def _digits(shot: int) -> TaskSource:
    return Digits().tasks("test", way=WAY, shot=shot, query=QUERY, seed=TEST_SEED)


def _test(learner: AbstractLearner, name: str, episodes: int, digest: str = "") -> dict[str, Result]:
    results = {}
    for shot in SHOTS:
        found = meta_test(
            learner,
            _digits(shot),
            episodes=episodes,
            progress=partial(_tell_tests, name, shot),
        )
        results[cell_name(found)] = replace(found, learner=name, recipe_hash=digest)
    return results


def _tell_tests(name: str, shot: int, done: int, total: int) -> None:
    tell(News(name, done, total, f"{shot}-shot test tasks"))


def _picture(learner: AbstractLearner, name: str) -> EpisodePicture:
    """The first 5-way 1-shot task, its classes called by the digits that they are."""
    source = Digits().tasks("test", way=WAY, shot=1, query=5, seed=TEST_SEED)
    classes = source.episodes(range(1)).classes
    names = [] if classes is None else [str(int(number)) for number in classes[0]]
    caption = f"{name} learns {WAY} digits from one drawing of each"
    return picture_episode(learner, source, names=names, caption=caption, ink=True)


# --- the report --------------------------------------------------------------------------------------


def _write(report: Path, table: Comparison, findings: list[_Finding]) -> None:
    write_report(
        report,
        title="quickstudy: learning digits from a few drawings",
        lead=(
            "Two learners were meta-trained on letters drawn from fonts. Here they learn real handwritten digits, "
            "which they have never seen, from one and from five drawings of each, beside baselines that were not "
            "meta-trained."
        ),
        table=table,
        curves=[curve for finding in findings for curve in finding.curves],
        pictures=[finding.picture for finding in findings if finding.picture is not None],
        settings={
            finding.name: finding.recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
            for finding in findings
            if finding.recipe is not None
        },
        versions=describe_environment(),
        notes=[
            "All learners and baselines saw the same tasks, so they are compared task by task. Letters and training "
            "settings were chosen on letters held out of training; no setting was chosen on digits.",
            "Both meta-learners were trained on tasks with one example a class; at five, the same weights are tested. "
            "ProtoNet trains on tasks of 20 classes and MAML on tasks of 5, so their training curves are not to be "
            "compared with each other; the validation curves are of 5 classes for both.",
            "Ten digits are few classes. The intervals above are over tasks made of these ten; how far they "
            "would move with other classes stands beside each result in the full list.",
        ],
    )
