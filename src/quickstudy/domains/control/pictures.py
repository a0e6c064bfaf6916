"""Floor 5: returns against what they cost, and rollouts before and after adaptation as moving pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.controltasks import ControlTasks
from quickstudy.data.environments import AbstractEnvironment
from quickstudy.data.pointnavigation import PointNavigation
from quickstudy.episode import Episode, Examples
from quickstudy.evaluate import Result, Section
from quickstudy.evaluate.figures import Drawing, Theme, drawing, dress, legend
from quickstudy.evaluate.metatest import evaluating
from quickstudy.evaluate.wording import number
from quickstudy.keys import Key, Keys
from quickstudy.learners.parts.agents import AbstractAgent
from quickstudy.learners.parts.rollouts import leaf, returns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["moving", "point_rollouts", "return_curves", "rollouts"]

_SIZE = 220  # pixels of a frame
_TASKS = 3  # that are shown
_LOOKED_AT = 16  # in search of so many that differ
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
        text=("Mean return over the tasks, with 95 % intervals, against the environment steps that adapting took.",),
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
    before, after = (leaf(run, "obs").numpy() for run in _played(learner, episode))
    goals = leaf(episode.query, "task")[:, 0].numpy()
    pictures = []
    for task, goal in enumerate(goals):
        frames = [_beside(_points(before[task], goal, t), _points(after[task], goal, t)) for t in range(0, _FRAMES)]
        where = f"({goal[0]:.2f}, {goal[1]:.2f})".replace("-", "−")
        pictures.append((moving(frames), f"Task {task}, goal {where}: before adaptation (left) and after (right)"))
    return Section(
        "Rollouts",
        text=(
            f"The first {_TASKS} tasks: {before.shape[1]} trajectories each, their first {_FRAMES} steps. The "
            "circle is the goal, which the policy does not see.",
        ),
        pictures=pictures,
    )


def rollouts(learner: AbstractAgent, source: ControlTasks) -> Section:
    """A trajectory of each of a few tasks, before and after adapting, drawn by the environment where it can.

    Args:
        learner: as tested.
        source: of its environment.
    """
    if isinstance(source.environment, PointNavigation):
        return point_rollouts(learner, source)
    parameters = source.parameters(range(_LOOKED_AT))
    _, first = np.unique(parameters, axis=0, return_index=True)  # of a few tasks, two may be the same
    episode = source.episodes(np.sort(first)[:_TASKS])
    runs = _played(learner, replace(episode, query=episode.query.rows(slice(0, 1))))
    pictures = []
    try:
        for place in range(episode.n_task):
            parts = [list(_frames(source.environment, run, place)) for run in runs]
            if not all(parts):
                return Section("Rollouts", text=("This environment draws no pictures of rollouts.",))
            # The shorter stays on its last picture.
            longest = max(len(frames) for frames in parts)
            parts = [frames + frames[-1:] * (longest - len(frames)) for frames in parts]
            earned = [number(float(returns(run)[place, 0]), "return") for run in runs]
            words = (
                f"{_task(source, leaf(episode.query, 'task')[place, 0])}: before adaptation (left, return {earned[0]}) "
                f"and after (right, {earned[1]})"
            )
            pictures.append((moving([_beside(*pair) for pair in zip(*parts, strict=True)]), words))
    except Exception as error:  # renderers fail with errors of their own, of OpenGL and of the system
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Section(
            "Rollouts",
            text=(
                f"There are no pictures of rollouts: off-screen rendering failed here ({reason.rstrip('.')}). For "
                "MuJoCo on Debian install libosmesa6 and set MUJOCO_GL=osmesa, or libegl1 and MUJOCO_GL=egl.",
            ),
        )
    return Section("Rollouts", text=("The first trajectory of each task.",), pictures=pictures)


def _frames(world: AbstractEnvironment, run: Examples, place: int) -> Iterator[NDArray[np.uint8]]:
    task, seed = leaf(run, "task")[place, 0], int(leaf(run, "seed")[place, 0])
    made = leaf(run, "action")[place, 0][leaf(run, "alive")[place, 0]]
    every = max(1, len(made) // _FRAMES)
    return iter(world.frames(task, seed, made, every=every, size=_SIZE) or ())


def _task(source: ControlTasks, task: Tensor) -> str:
    named = zip(source.environment.parameters, task.tolist(), strict=True)
    return ", ".join(f"{name} {value:.3g}".replace(" -", " −") for name, value in named)


def _played(learner: AbstractAgent, episode: Episode) -> tuple[Examples, Examples]:
    """The query's trajectories as the policy runs them before and after adapting, with their tasks and seeds."""
    keys, asked = Keys(Key.of(0, "meta-test"), episode.indices.numpy()), episode.query.x
    there = episode.to(next((p.device for p in learner.parameters()), torch.device("cpu")))
    with evaluating(learner), torch.no_grad():
        stages = learner.stages(learner.adapt(there.support, key=keys))
        found = [learner.play(stages[at], there.query, keys.fold("query")).to("cpu").x for at in (0, -1)]
    assert isinstance(asked, dict)
    before, after = (replace(episode.query, x=asked | run, y=None) for run in found if isinstance(run, dict))
    return before, after


def _points(run: NDArray[np.float32], goal: NDArray[np.float32], t: int) -> NDArray[np.uint8]:
    """A frame: where the points of one task are after ``t`` steps, with their trails."""
    from PIL import Image, ImageDraw

    def place(at: NDArray[np.float32]) -> tuple[float, float]:
        return float(_SIZE * (0.5 + at[0] / 1.6)), float(_SIZE * (0.5 - at[1] / 1.6))

    picture = Image.new("RGB", (_SIZE, _SIZE), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, _SIZE - 1, _SIZE - 1), outline=(200, 205, 212))  # a page may be white, too
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
