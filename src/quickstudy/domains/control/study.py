"""Floor 5: what is compared in control: policies on tasks that training has not met, step by step of adaptation."""

from __future__ import annotations

from collections.abc import Sequence

from quickstudy.data.controltasks import ControlTasks
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.domains.control.baselines import RandomActions, from_scratch, oracle
from quickstudy.domains.control.pictures import cheetah_rollouts, point_rollouts, return_curves
from quickstudy.domains.control.stablebaselines import StableBaselinesPPO
from quickstudy.domains.study import Column, Found, Rival, Study
from quickstudy.evaluate import Section
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.parts.agents import AbstractAgent

__all__ = ["cheetah", "navigation"]

_TRAJECTORIES = 20  # of a step of adaptation, as in the recipes

_NOTES = (
    "Every row was tested on the same tasks and the same starts. return@0 of the pretrained row is the same policy "
    "trained over all tasks without adaptation; the oracle sees the task and does not adapt.",
)


def navigation() -> Study:
    """Find an unknown goal in the plane."""
    return Study(
        name="control",
        recipe="point-navigation-maml-fast",
        plain="point-navigation-fine-tune-fast",
        rivals=(
            Rival("from scratch", _scratch),
            Rival("PPO of stable-baselines3, from scratch", _ppo),
            Rival("random actions", _random),
            Rival("oracle, which is told the goal", _told_goal),
        ),
        columns=(Column("unseen goals, 3 steps of 20 trajectories"),),
        episodes=40,
        sections=_navigation_sections,
        notes=_NOTES,
    )


def cheetah() -> Study:
    """Run forwards or backwards."""
    return Study(
        name="control-cheetah",
        recipe="half-cheetah-direction-maml-fast",
        plain="half-cheetah-direction-fine-tune-fast",
        rivals=(
            Rival("from scratch", _scratch),
            Rival("random actions", _random),
            Rival("oracle, which is told the direction", _told_direction),
        ),
        columns=(Column("forwards or backwards, 3 steps of 20 trajectories"),),
        episodes=40,
        sections=_cheetah_sections,
        notes=(*_NOTES, "There are two directions, and training has met both: what is new in a test is the starts."),
    )


def _scratch(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del training
    return from_scratch(shape, trajectories=_TRAJECTORIES, inner_lr=0.5)


def _ppo(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del training
    return StableBaselinesPPO(shape, _TRAJECTORIES)


def _random(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    del training
    return RandomActions(shape, _TRAJECTORIES)


# As many steps on as many tasks as in the recipes.
def _told_goal(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    return oracle(shape, training, trajectories=_TRAJECTORIES, steps=100, tasks_per_step=20)


def _told_direction(shape: TaskShape, training: TaskSource) -> AbstractLearner:
    return oracle(shape, training, trajectories=_TRAJECTORIES, steps=100, tasks_per_step=8)


def _navigation_sections(found: Found) -> Sequence[Section]:
    assert isinstance(found.learner, AbstractAgent)
    source = next(iter(found.sources.values()))
    assert isinstance(source, ControlTasks)
    return (return_curves(found.results), point_rollouts(found.learner, source))


def _cheetah_sections(found: Found) -> Sequence[Section]:
    assert isinstance(found.learner, AbstractAgent)
    source = next(iter(found.sources.values()))
    assert isinstance(source, ControlTasks)
    return (return_curves(found.results), cheetah_rollouts(found.learner, source))
