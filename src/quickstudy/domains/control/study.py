"""Floor 5: what is compared in control: policies on tasks that training has not met, step by step of adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quickstudy.data.controltasks import ControlTasks
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.domains.control.baselines import RandomActions, from_scratch, oracle
from quickstudy.domains.control.pictures import return_curves, rollouts
from quickstudy.domains.control.stablebaselines import StableBaselinesPPO
from quickstudy.domains.study import Column, Found, Rival, Study
from quickstudy.evaluate import Section
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.parts.agents import AbstractAgent

__all__ = ["cheetah", "directions", "navigation"]

# As in the recipes.
_TRPO: Mapping[str, Any] = {"curvature_share": 0.25}
_PPO: Mapping[str, Any] = {"outer": "ppo", "epochs": 8, "discount": 0.95, "gae_lambda": 0.95, "log_std": -0.5}

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
        rivals=_rivals("goal", steps=100, tasks_per_step=20),
        also=("point-navigation-rl2-fast", "point-navigation-reptile-fast", "point-navigation-grbal-fast"),
        columns=(Column("unseen goals, 3 steps of 20 trajectories"),),
        episodes=40,
        sections=_sections,
        notes=_NOTES,
    )


def cheetah() -> Study:
    """Run at an unknown velocity."""
    return Study(
        name="control-cheetah",
        recipe="half-cheetah-velocity-maml-fast",
        plain="half-cheetah-velocity-fine-tune-fast",
        rivals=_rivals("velocity", steps=100, tasks_per_step=5, trajectories=10, policy=_PPO),
        columns=(Column("unseen velocities, 3 steps of 10 trajectories"),),
        episodes=40,
        sections=_sections,
        notes=_NOTES,
    )


def directions() -> Study:
    """Run forwards or backwards."""
    return Study(
        name="control-cheetah-direction",
        recipe="half-cheetah-direction-maml-fast",
        plain="half-cheetah-direction-fine-tune-fast",
        rivals=_rivals("direction", steps=100, tasks_per_step=8),
        columns=(Column("forwards or backwards, 3 steps of 20 trajectories"),),
        episodes=40,
        sections=_sections,
        notes=(*_NOTES, "There are two directions, and training has met both: what is new in a test is the starts."),
    )


def _rivals(
    told: str, *, steps: int, tasks_per_step: int, trajectories: int = 20, policy: Mapping[str, Any] = _TRPO
) -> tuple[Rival, ...]:
    """The baselines; an oracle is trained on as many steps and tasks as the recipes, with their options of a policy."""

    def scratch(shape: TaskShape, training: TaskSource) -> AbstractLearner:
        del training
        return from_scratch(shape, trajectories=trajectories, inner_lr=0.5, policy=policy)

    def ppo(shape: TaskShape, training: TaskSource) -> AbstractLearner:
        del training
        return StableBaselinesPPO(shape, trajectories)

    def at_random(shape: TaskShape, training: TaskSource) -> AbstractLearner:
        del training
        return RandomActions(shape, trajectories)

    def knows(shape: TaskShape, training: TaskSource) -> AbstractLearner:
        size = {"steps": steps, "tasks_per_step": tasks_per_step}
        return oracle(shape, training, trajectories=trajectories, policy=policy, **size)

    return (
        Rival("from scratch", scratch),
        Rival("PPO of stable-baselines3, from scratch", ppo),
        Rival("random actions", at_random),
        Rival(f"oracle, which is told the {told}", knows),
    )


def _sections(found: Found) -> Sequence[Section]:
    assert isinstance(found.learner, AbstractAgent)
    source = next(iter(found.sources.values()))
    assert isinstance(source, ControlTasks)
    return (return_curves(found.results), rollouts(found.learner, source))
