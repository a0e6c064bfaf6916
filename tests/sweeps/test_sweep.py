"""Whole sweeps: chosen by meta-validation, tested once; what the user hears of what cannot be."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import quickstudy.data.sinusoid
from quickstudy.errors import InputError, RunError
from quickstudy.recipes import load_recipe
from quickstudy.runs import results_of
from quickstudy.sweeps import SweepFolder, Swept, sweep
from quickstudy.sweeps.study import Study
from quickstudy.sweeps.trial import Reached, run_trial
from quickstudy.train import RunFolder
from tests.cli.conftest import Command

SHORT = {
    "train.steps": 8,
    "train.validate-every": 4,
    "train.validate-episodes": 4,
    "train.tasks-per-step": 2,
    "learner.inner-steps": 1,
    "evaluate.episodes": 6,
}
FLAGS = [part for key, value in SHORT.items() for part in (f"--{key}", str(value))]
VARY = {"train.lr": "log:0.001:0.1"}


class InThisProcess:
    """Stands in for the crew, for tests of what is around it."""

    def __init__(
        self,
        folder: SweepFolder,
        study: Study,
        number: int,
        trials: int,
        job: dict[str, Any],
        told: Callable[[int, Reached], None],
    ) -> None:
        self.folder, self.study, self.number, self.trials, self.job, self.told = (
            folder,
            study,
            number,
            trials,
            job,
            told,
        )

    def work(self) -> None:
        waiting = self.study.taken_up()
        while waiting or self.study.begun < self.trials:
            given = waiting.pop() if waiting else self.study.ask()
            report = lambda step, value, number=given.number: self.study.report(number, step, value)  # noqa: E731
            reached = run_trial(self.folder, given.number, given.values, report, device="cpu")
            self.study.tell(given.number, reached)
            self.told(given.number, reached)


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quickstudy.sweeps.sweeping.Crew", InThisProcess)
    if "page" not in request.fixturenames:  # drawing takes longer than all else
        for place in ("quickstudy.sweeps.sweeping.write_page", "quickstudy.testing.write_run_report"):
            monkeypatch.setattr(place, lambda *given: None)


@pytest.fixture
def page() -> None:
    """Of tests that look at the page."""


def a_sweep(**options: Any) -> Swept:
    given: dict[str, Any] = {"trials": 3, "overrides": SHORT, "vary": VARY, "device": "cpu"}
    return sweep("sinusoid-maml-fast", **{**given, **options})


def test_a_sweep(tmp_path: Path, page: None) -> None:
    del page
    swept = a_sweep()
    assert swept.folder.path == Path("sweeps/sinusoid-maml-fast")
    assert [trial.outcome for trial in swept.trials] == ["finished"] * 3
    assert swept.trials[0].values == {"train.lr": 3e-3}, "the recipe as it is"
    assert swept.best.value == min(trial.value or 0.0 for trial in swept.trials)
    assert swept.result is not None and swept.result.split == "test" and swept.result.episodes == 6
    kept = json.loads((tmp_path / swept.folder.result).read_text())
    assert kept["trial"] == swept.best.number and kept["validation"] == swept.best.value
    assert (tmp_path / swept.folder.path / kept["evaluation"]).is_file()
    html = swept.folder.report.read_text(encoding="utf-8")
    for said in ("Sweep of sinusoid-maml-fast", "Trial by trial", "Each key by itself", "meta-test was looked at once"):
        assert said in html
    assert "<script" not in html and "http:" not in re.sub(r"data:[^\"]+", "", html)


def test_meta_test_is_looked_at_once_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    roles: list[str] = []
    tasks = quickstudy.data.sinusoid.Sinusoid.tasks

    def watched(self: Any, role: str, **sizes: Any) -> Any:
        roles.append(role)
        if role == "test" and len(trials_done()) < 3:
            raise AssertionError("meta-test was looked at before all trials were done")
        return tasks(self, role, **sizes)

    def trials_done() -> list[Path]:
        return list(Path("sweeps/sinusoid-maml-fast/trials").glob("*/checkpoints/best"))

    monkeypatch.setattr(quickstudy.data.sinusoid.Sinusoid, "tasks", watched)
    first = a_sweep()
    assert roles.count("test") == 1 and roles[-1] == "test"
    again = a_sweep()
    assert roles.count("test") == 1
    assert again.result is not None and first.result is not None
    assert again.result.per_episode == first.result.per_episode
    tested = [path for path in Path("sweeps/sinusoid-maml-fast/trials").glob("*/evaluations/*.json")]
    assert [path.parents[1].name for path in tested] == [first.best.run]


def test_a_test_that_was_not_noted_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep was killed between the two."""
    swept = a_sweep()
    swept.folder.result.unlink()
    monkeypatch.setattr("quickstudy.sweeps.sweeping.evaluate", None)
    assert a_sweep().result == swept.result
    assert swept.folder.result.is_file()


def test_trials_can_be_added_until_it_is_tested() -> None:
    swept = a_sweep(trials=2, test=False)
    assert swept.result is None
    assert results_of(RunFolder(swept.run)) == []
    assert sweep(swept.folder.path, test=False, device="cpu").trials == swept.trials  # as many as it was asked for
    more = sweep(swept.folder.path, trials=4, device="cpu")
    assert len(more.trials) == 4 and more.trials[:2] == swept.trials
    assert more.result is not None
    with pytest.raises(InputError, match=r"is closed: its best trial was tested.*--no-test it stays open"):
        sweep(swept.folder.path, trials=5)
    assert len(sweep(swept.folder.path, trials=1).trials) == 4
    assert sweep(swept.folder.path).result == more.result


def test_a_sweep_of_another_kind_is_refused() -> None:
    swept = a_sweep(trials=1, test=False)
    for changed, said in (
        ({"overrides": {**SHORT, "train.steps": 9}}, r"is a sweep of another recipe: train.steps was 8 and is 9"),
        ({"vary": {"train.lr": "log:0.01:0.1"}}, r"another space: it was begun with train.lr=log:0.001:0.1"),
        ({"prune": "none"}, r"another prune: it was begun with 'median'"),
        ({"seed": 3}, r"another seed: it was begun with 0"),
        ({"out": "sweeps"}, r"sweeps is no sweep, and not empty"),
    ):
        with pytest.raises(InputError, match=said):
            a_sweep(**{"trials": 1, **changed})
    with pytest.raises(InputError, match=r"is a sweep to go on with, which has its folder"):
        sweep(swept.folder.path, out="elsewhere")


def test_two_sweeps_on_one_folder() -> None:
    with SweepFolder(Path("sweeps/sinusoid-maml-fast")).locked():
        with pytest.raises(InputError, match=r"A sweep is going on in sweeps/sinusoid-maml-fast already \(process \d+"):
            a_sweep()


def test_a_sweep_in_which_nothing_comes_to_a_figure() -> None:
    with pytest.raises(RunError, match=r"No trial came to a figure: 2 diverged. The first: .*Take narrower ranges"):
        a_sweep(trials=2, vary={"learner.inner-lr": "log:1e30:1e35"})


def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    for options, said in (
        ({"vary": {"learner.inner-rate": "log:0.1:1"}}, r"Cannot vary learner.inner-rate"),
        (
            {"overrides": {**SHORT, "train.validate-every": 0}},
            r"never validates \(train.validate-every is 0\).*every 1\.",
        ),
        ({"trials": 0}, r"needs one trial and one worker or more, received 0 and None"),
        ({"overrides": {"train.stepz": 1}}, r"Did you mean 'train.steps'"),
    ):
        with pytest.raises(InputError, match=said):
            a_sweep(**options)
    assert not list((tmp_path / "sweeps").glob("*"))


def test_what_learns_nothing_is_swept_too() -> None:
    overrides = {"train.steps": 0, "train.validate-episodes": 4, "evaluate.episodes": 4}
    swept = a_sweep(overrides=overrides, vary={"learner.inner-lr": "log:0.001:0.1"})
    assert len({trial.value for trial in swept.trials}) == 3


def test_the_command_line(quickstudy: Command) -> None:
    done = quickstudy("sweep", "sinusoid-maml-fast", "--trials", 2, "--vary", "train.lr=log:1e-3:1e-1", *FLAGS)
    assert done.status == 0, done.err
    assert re.search(
        r"2 trials, \d at a time, in sweeps/sinusoid-maml-fast; chosen by the mse .*\n  train.lr  log:", done.err
    )
    assert re.search(r"trial 0: mse [\d.]+ \(best so far\)", done.err)
    assert re.match(
        r"2 trials: 2 finished\nbest: trial \d, validation mse [\d.]+\n  --train.lr [\d.]+\nmse .* test", done.out
    )
    found = json.loads(quickstudy("sweep", "sweeps/sinusoid-maml-fast", "--trials", 2, "--json").out)
    assert found["space"] == [{"key": "train.lr", "range": "log:0.001:0.1"}]
    assert [trial["outcome"] for trial in found["trials"]] == ["finished"] * 2
    assert found["test"]["episodes"] == 6 and Path(found["best"]["run"]).is_dir()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vary", "train.lr"], "--vary: expected KEY=RANGE, such as learner.inner-lr=log:0.01:1, found 'train.lr'."),
        (["--vary", "train.lr=1", "--vary", "train.lr=2"], "--vary: train.lr is given twice. Give it one range."),
        (["--vary", "train.lr=log:2:1"], "the first number must be below the second"),
        (["--steps", "3", "--train.steps", "3"], "--steps is short for --train.steps, and both are given. Give one."),
        (["--search", "none.toml"], "Cannot read the search space none.toml"),
        (["--workers", "0"], "--workers"),
        (["--trialz", "3"], "Did you mean '--trials'?"),
    ],
)
def test_bad_input(quickstudy: Command, arguments: list[str], said: str) -> None:
    done = quickstudy("sweep", "sinusoid-maml-fast", *arguments)
    assert done.status == 2
    assert said in done.err
    assert not Path("sweeps").exists() or not list(Path("sweeps").iterdir())


def test_a_recipe_object_and_its_own_folder() -> None:
    recipe = load_recipe("sinusoid-maml-fast", SHORT)
    swept = sweep(recipe, trials=1, vary=VARY, out="mine", test=False, device="cpu")
    assert swept.run == Path("mine/trials/sinusoid-maml-fast-t000-s0-001")
    with pytest.raises(InputError, match="Cannot apply overrides to a Recipe"):
        sweep(recipe, overrides=SHORT, out="other")
