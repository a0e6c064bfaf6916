"""Floor 6: one page over one or several runs: ``quickstudy report``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from quickstudy.data.controltasks import ControlTasks
from quickstudy.errors import DataError, InputError
from quickstudy.evaluate import Comparison, Curve, Entry, EpisodePicture, Result, Section, compare, write_report
from quickstudy.evaluate.calibration import calibration_section
from quickstudy.evaluate.comparison import cell_name
from quickstudy.evaluate.figures import draw_curves
from quickstudy.evaluate.robustness import Robustness, robustness_section
from quickstudy.evaluate.wording import count, metric_name, number
from quickstudy.files import check_writable
from quickstudy.progress import EvaluationProgress, Line
from quickstudy.recipes.fitting import curves_of
from quickstudy.reporting import by_column, changes_in_words, heard, of_control, records_of
from quickstudy.reports.classes import classes_section
from quickstudy.reports.comparing import RunsCompared, compare_runs
from quickstudy.reports.hardest import hardest_pictures, hardest_section
from quickstudy.reports.measuring import Answered, Asked, answered, ask, by_shots, by_steps, shots_curve
from quickstudy.reports.rates import rates_section
from quickstudy.runs import open_run, recipe_of, results_of
from quickstudy.stressing import robustness_of
from quickstudy.train import RunFolder
from quickstudy.training import pick_device

__all__ = ["report"]


@dataclass(eq=False)
class _Found:
    """What the page shows of the runs' answers."""

    answers: dict[str, Answered] = field(default_factory=dict)
    steps: list[Curve] = field(default_factory=list)
    shots: list[Curve] = field(default_factory=list)
    pictures: list[EpisodePicture] = field(default_factory=list)
    own: list[Section] = field(default_factory=list)
    robust: dict[str, Robustness] = field(default_factory=dict)
    robust_of: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trained_with: dict[str, int] = field(default_factory=dict)


def report(
    runs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    role: str | None = None,
    episodes: int = 100,
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> Path:
    """Write one self-contained HTML page over one or several runs.

    It shows their results, training curves with intervals and gradient norms, and what their learners say of tasks that
    it asks them: losses and figures along inner steps and shots, learned rates, calibration, what is taken for what,
    and the hardest classes and tasks.

    Args:
        runs: run folders.
        out: the page; by default ``full-report.html`` in the run's folder, beside the ``report.html`` of
            ``quickstudy.evaluate``; of several runs ``report.html`` in the working folder.
        role: of the tasks that are asked, ``"validation"`` (by default, where the data has it: who looks around on
            meta-test selects on it) or ``"test"``.
        episodes: how many tasks; 0: nothing is asked.
        data_root: see ``quickstudy.train``.
        device: see ``quickstudy.train``.
        progress: show progress on stderr.

    Returns:
        The page's path.

    Raises:
        InputError: there is no such run, or numbers make no sense.
        CheckpointError: a checkpoint is missing or broken.
        StorageError: the disk refused.
    """
    if not runs:
        raise InputError("Cannot write a report of no runs: name one or more.")
    if episodes < 0 or episodes == 1:
        raise InputError(f"A report asks 2 tasks or more, or 0 to ask none, received {episodes}.")
    folders = [open_run(Path(run)) for run in runs]
    compared = compare_runs(runs) if len(folders) > 1 else None
    named = dict(zip(_names(folders, compared), folders, strict=True))
    path = Path(out) if out is not None else folders[0].full_report if compared is None else Path("report.html")
    # Before learners are asked for minutes.
    check_writable(path.parent, f"write {path.name}", "Name another place for the page with --out.")
    line = Line() if progress else None
    found = _Found()
    if episodes:
        where, root = pick_device(device), None if data_root is None else Path(data_root)
        for name, folder in named.items():
            _ask(found, name, folder, role, episodes, root, where, line)
    for name, folder in named.items():
        saved = robustness_of(folder, tell=found.notes.append)
        if saved is not None:
            found.robust[name] = saved
            found.robust_of.append(f"{name}: {_tasks_of(saved, folder)}.")
        found.notes += [f"{name} was changed on the way: {what}" for what in changes_in_words(folder)]
    first = recipe_of(folders[0])
    write_report(
        path,
        title=folders[0].path.name if compared is None else f"{len(folders)} runs",
        lead=_lead(named),
        table=_table(named, found),
        curves=[curve for name, folder in named.items() for curve in curves_of(records_of(folder.metrics), name)],
        pictures=found.pictures,
        sections=_sections(found, list(named), compared, episodes),
        settings=first.model_dump(mode="json", by_alias=True, exclude_none=True),
        versions=folders[0].about,
        notes=found.notes,
    )
    return path


# --- asking ------------------------------------------------------------------------------------


def _ask(
    found: _Found,
    name: str,
    folder: RunFolder,
    role: str | None,
    episodes: int,
    data_root: Path | None,
    device: torch.device,
    line: Line | None,
) -> None:
    """Everything that a run's learner is asked; where its data is not there, a note says so."""
    asked = _asked(found, name, folder, role, data_root, device)
    if asked is None:
        return
    if isinstance(asked.source, ControlTasks):
        acted = answered(asked, episodes, _told(line, f"episodes of {name}"))
        found.own += of_control(asked.learner, asked.source, acted.result, name)
        return
    episodes = asked.source.at_most(episodes)
    found.answers[name] = mine = answered(asked, episodes, _told(line, f"episodes of {name}"))
    taken = by_steps(asked, episodes, _told(line, f"numbers of inner steps of {name}"))
    if taken is not None:
        found.steps += taken.curves(name)
        found.trained_with[name] = taken.trained
    results = by_shots(asked, episodes, _told(line, f"numbers of shots of {name}"))
    if len(results) > 1:
        found.shots.append(shots_curve(name, results))
    rates = asked.learner.learned_rates()
    if rates:
        found.own.append(rates_section(name, rates))
    if mine.classes is not None:
        found.own.append(classes_section(name, mine.classes))
    found.own += [hardest_section(asked, mine.result), *heard(asked.learner, asked.source)]
    found.pictures += hardest_pictures(asked, mine.result)


def _asked(
    found: _Found, name: str, folder: RunFolder, role: str | None, data_root: Path | None, device: torch.device
) -> Asked | None:
    try:
        if role is not None:
            return ask(name, folder, role, data_root, device)
        try:
            return ask(name, folder, "validation", data_root, device)
        except DataError:
            raise
        except InputError:  # the data has none, or it was trained on
            return ask(name, folder, "test", data_root, device)
    except DataError as error:
        found.notes.append(f"{name} was not asked anything, as its data cannot be read. {error}")
        return None


def _told(line: Line | None, what: str) -> Callable[[int, int], None] | None:
    return None if line is None else EvaluationProgress(line, what)


# --- showing -----------------------------------------------------------------------------------


def _names(folders: Sequence[RunFolder], compared: RunsCompared | None) -> list[str]:
    """One run is called as its learner; of several each has a letter, too."""
    names = [recipe_of(folder).learner.name for folder in folders]
    return names if compared is None else [f"{a} {name}" for a, name in zip(compared.names, names, strict=True)]


def _lead(named: dict[str, RunFolder]) -> str:
    if len(named) == 1:
        (folder,) = named.values()
        recipe = recipe_of(folder)
        return f"The learner {recipe.learner.name}, meta-trained on {recipe.data.name} by the recipe {recipe.name}."
    return " ".join(f"{name}: {folder.path.name}." for name, folder in named.items())


def _table(named: dict[str, RunFolder], found: _Found) -> Comparison | None:
    """The saved results, of the metric that most have; others are in a note."""
    entries = {name: by_column(results_of(folder), recipe_of(folder).data.name) for name, folder in named.items()}
    every = [result for results in entries.values() for result in results.values()]
    if not every:
        found.notes.append("No result is saved yet: quickstudy evaluate RUN measures one on the test tasks.")
        return None
    metrics = [result.metric for result in every]
    main = max(dict.fromkeys(metrics), key=metrics.count)
    if len(set(metrics)) > 1:
        others = ", ".join(sorted(set(metrics) - {main}))
        found.notes.append(f"The table is of {main}; results of {others} are left out of it.")
    kept = {n: {c: r for c, r in results.items() if r.metric == main} for n, results in entries.items()}
    return compare([Entry(name, results) for name, results in kept.items() if results])


def _sections(found: _Found, names: list[str], compared: RunsCompared | None, episodes: int) -> list[Section]:
    sections = [] if compared is None else _compared(compared, names)
    roles = sorted({f"{one.result.split} tasks of {one.result.data}" for one in found.answers.values()})
    episodes = max((one.result.episodes for one in found.answers.values()), default=episodes)
    asked = f"{count(episodes)} {' and '.join(roles)}"
    if found.steps:
        trained = ", ".join(f"{name} {steps}" for name, steps in found.trained_with.items())
        text = (
            f"{asked} after each number of inner steps, none being before the first one, with 95 % intervals. "
            f"Trained with so many steps: {trained}."
        )
        sections.append(Section("Before and after each inner step", [text], draw_curves(found.steps, names)))
    if found.shots:
        text = f"{count(episodes)} tasks of each number of shots, with 95 % intervals."
        sections.append(Section("More examples to learn from", [text], draw_curves(found.shots, names)))
    collected = {name: one.calibration.answers for name, one in found.answers.items() if one.calibration is not None}
    if collected:
        sections.append(calibration_section(collected, f"Calibration and abstention, {asked}"))
    if found.robust:
        robust = robustness_section(found.robust, "Robustness, as saved by quickstudy evaluate")
        sections.append(replace(robust, text=(" ".join(found.robust_of), *robust.text)))
    return [*sections, *found.own]


def _tasks_of(saved: Robustness, folder: RunFolder) -> str:
    """How many episodes of which tasks; of their sizes what the result beside says, which is there unless removed."""
    said = f"{count(saved.episodes)} episodes of {saved.source.get('data', '')}, {saved.source.get('split', '')}"
    beside = next((one for one in results_of(folder) if saved.stands_beside(one)), None)
    return said if beside is None else f"{said}, {cell_name(beside)}"


def _compared(compared: RunsCompared, names: list[str]) -> list[Section]:
    rows = [
        (key, *["" if value is None else str(value) for value in values]) for key, values in compared.recipes.items()
    ]
    text = ["What the recipes say differently."] if rows else ["Their recipes are the same."]
    sections = [Section("The runs", text, head=("", *names), rows=rows)]
    pairs: list[tuple[str, ...]] = []
    for tested in compared.tests:
        there = [place for place, result in enumerate(tested.results) if result is not None]
        for pair in tested.pairs:
            first = tested.results[there[0]]
            assert first is not None
            pairs.append((f"{names[there[0]]} - {names[pair.other]}", tested.column, *_difference(first, pair)))
    if pairs:
        head = ("runs", "tasks", "difference", "clear?", "episodes")
        text = ["Differences episode by episode, where both were tested on the same tasks, with 95 % intervals."]
        sections.append(Section("In pairs", text, head=head, rows=pairs))
    return sections


def _difference(first: Result, pair: Any) -> tuple[str, str, str]:
    versus = pair.difference
    if versus is None:
        return "not paired", pair.why_not, ""
    if versus.difference != versus.difference:
        return "infinite errors", "", count(versus.episodes)
    said = f"{number(versus.difference, first.metric, sign=True)} ± {number(versus.ci95, first.metric)}"
    clear = (
        "no clear difference" if not versus.excludes_zero else "first better" if versus.favours_a else "second better"
    )
    return f"{said} ({metric_name(first.metric)})", clear, count(versus.episodes)
