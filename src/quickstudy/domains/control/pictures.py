"""Floor 5: returns against what they cost, and rollouts before and after adaptation as moving pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.controltasks import ControlTasks
from quickstudy.data.mujocotasks import Robot
from quickstudy.episode import Episode
from quickstudy.evaluate import Result, Section
from quickstudy.evaluate.figures import Drawing, Theme, drawing, dress, legend
from quickstudy.evaluate.metatest import evaluating
from quickstudy.evaluate.wording import number
from quickstudy.keys import Key, Keys
from quickstudy.learners.parts.agents import AbstractAgent
from quickstudy.learners.parts.rollouts import leaf

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cheetah_rollouts", "moving", "point_rollouts", "return_curves"]

_SIZE = 220  # pixels of a frame
_TASKS = 3  # that are shown
_FRAMES = 30
_PACE = 120  # milliseconds a frame


def return_curves(results: Mapping[str, Mapping[str, Result]]) -> Section:
    """Each method's return after each step of adaptation, against the environment steps that it took.

    Args:
        results: row -> column -> what was measured.
    """
    drawings, rows = [], list[list[str]]()
    columns = list(next(iter(results.values())))
    stages = 0
    for column in columns:
        lines = {row: _line(found[column]) for row, found in results.items() if column in found}
        drawings.append(_curves(column, lines))
        for row, points in lines.items():
            said = [f"{number(mean, 'return')} ± {number(half, 'return')}" for _, mean, half in points]
            stages = max(stages, len(said))
            rows.append([row, *said])
    return Section(
        "Return after each step of adaptation",
        text=(
            "Mean return over the test tasks, with 95 % intervals, against the environment steps that adapting took.",
        ),
        drawings=drawings,
        head=("", *(f"{k} steps" if k != 1 else "1 step" for k in range(stages))),
        rows=[row + [""] * (stages + 1 - len(row)) for row in rows],
    )


def _line(result: Result) -> list[tuple[float, float, float]]:
    """(environment steps, mean, half of the interval) after 0, 1, ... steps."""
    stages = sorted(int(name.partition("@")[2]) for name in result.others if name.startswith("return@"))
    whole = result.others["env-steps"].mean if "env-steps" in result.others else 0.0
    return [
        (whole * k / max(stages[-1], 1), result.others[f"return@{k}"].mean, result.others[f"return@{k}"].ci95)
        for k in stages
    ]


def _curves(title: str, lines: Mapping[str, Sequence[tuple[float, float, float]]]) -> Drawing:
    def draw(axes: Axes, theme: Theme) -> None:
        for place, (name, points) in enumerate(lines.items()):
            steps, means, halves = (list(column) for column in zip(*points, strict=True))
            colour = theme.lines[place % len(theme.lines)]
            wide = 2.2 if place == 0 else 1.3
            axes.errorbar(steps, means, yerr=halves, color=colour, label=name, marker="o", ms=3, capsize=2, lw=wide)
        dress(axes, theme, title, grid="y")
        axes.set_xlabel("environment steps of adaptation", color=theme.ink)
        axes.set_ylabel("return", color=theme.ink)
        legend(axes, theme, columns=2)

    spoken = " ".join(
        f"{name}: {number(points[0][1], 'return')} before, {number(points[-1][1], 'return')} after."
        for name, points in lines.items()
    )
    return drawing(draw, (5.8, 3.8), f"Return against environment steps, {title}. {spoken}")


# --- rollouts ----------------------------------------------------------------------------------------


def point_rollouts(learner: AbstractAgent, source: ControlTasks) -> Section:
    """All query trajectories of a few tasks: points on their way, before adapting (left) and after (right)."""
    episode = source.episodes(range(_TASKS))
    before, after = _played(learner, episode)
    goals = leaf(episode.query, "task")[:, 0].numpy()
    pictures = []
    for task, goal in enumerate(goals):
        frames = [_beside(_points(before[task], goal, t), _points(after[task], goal, t)) for t in range(0, _FRAMES)]
        where = f"({goal[0]:.2f}, {goal[1]:.2f})"
        pictures.append((moving(frames), f"Task {task}, goal {where}: before adaptation (left) and after (right)"))
    return Section(
        "Rollouts",
        text=(
            f"The first {_TASKS} test tasks: {before.shape[1]} trajectories each, their first {_FRAMES} steps. The "
            "circle is the goal, which the policy does not see.",
        ),
        pictures=pictures,
    )


def cheetah_rollouts(learner: AbstractAgent, source: ControlTasks) -> Section:
    """One trajectory of each direction, before and after, where there is an off-screen renderer."""
    episode = source.episodes(range(8))
    tasks = leaf(episode.query, "task")[:, 0]
    first = {float(task[0]): place for place, task in reversed(list(enumerate(tasks)))}
    before, after = _played(learner, episode, "action")
    pictures = []
    try:
        robot = Robot("direction")
        for direction, place in sorted(first.items()):
            seed = int(leaf(episode.query, "seed")[place, 0])
            parts = [
                list(robot.frames(tasks[place].double().numpy(), seed, run[place, 0], every=5, size=_SIZE))
                for run in (before, after)
            ]
            frames = [_beside(*pair) for pair in zip(*parts, strict=True)]
            word = "forwards" if direction > 0 else "backwards"
            pictures.append((moving(frames), f"To run {word}: before adaptation (left) and after (right)"))
    except Exception as error:  # MuJoCo's renderers fail with errors of their own, of OpenGL and of the system
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Section(
            "Rollouts",
            text=(
                f"There are no pictures of rollouts: off-screen rendering failed here ({reason}). On Debian install "
                "libosmesa6 and set MUJOCO_GL=osmesa, or libegl1 and MUJOCO_GL=egl.",
            ),
        )
    return Section("Rollouts", text=("The camera stays where the robot began.",), pictures=pictures)


def _played(learner: AbstractAgent, episode: Episode, name: str = "obs") -> tuple[NDArray[Any], NDArray[Any]]:
    """A leaf of the query trajectories, float32 ``[T, N, H, ...]``, by the policy before and after adapting."""
    keys = Keys(Key.of(0, "meta-test"), episode.indices.numpy())
    with evaluating(learner), torch.no_grad():
        stages = learner.stages(learner.adapt(episode.support, key=keys))
        found = [leaf(learner.play(stages[at], episode.query, keys.fold("query")), name).numpy() for at in (0, -1)]
    return found[0], found[1]


def _points(run: NDArray[np.float32], goal: NDArray[np.float32], t: int) -> NDArray[np.uint8]:
    """A frame: where the points of one task are after ``t`` steps, with their trails."""
    from PIL import Image, ImageDraw

    def place(at: NDArray[np.float32]) -> tuple[float, float]:
        return float(_SIZE * (0.5 + at[0] / 1.6)), float(_SIZE * (0.5 - at[1] / 1.6))

    picture = Image.new("RGB", (_SIZE, _SIZE), "white")
    pen = ImageDraw.Draw(picture)
    x, y = place(goal)
    pen.ellipse((x - 7, y - 7, x + 7, y + 7), outline=(200, 60, 40), width=2)
    for path in run:
        there = path[: t + 1]
        # A trajectory that ended, at its goal, has zeros behind.
        length = len(there)
        while length > 1 and not there[length - 1].any():
            length -= 1
        line = [place(at) for at in there[:length]]
        if len(line) > 1:
            pen.line(line, fill=(170, 190, 215))
        x, y = line[-1]
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(30, 80, 160))
    return np.asarray(picture)


def _beside(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gap = np.full((left.shape[0], 6, 3), 200, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def moving(frames: Sequence[NDArray[np.uint8]]) -> bytes:
    """Frames ``[height, width, 3]`` as a GIF that begins again when it is over."""
    from PIL import Image

    pictures = [Image.fromarray(frame).quantize(64) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=_PACE, loop=0, optimize=True)
    return file.getvalue()
