"""The journal of a sweep: nothing lost, nothing doubled, failures are values."""

from pathlib import Path
from typing import Any

import pytest

from quickstudy.errors import InputError
from quickstudy.sweeps import SweepFolder, read_dimension
from quickstudy.sweeps.study import DEATHS, Sampler, Study, need_optuna
from quickstudy.sweeps.trial import Reached

SPACE = [
    read_dimension("train.lr", "log:0.001:1"),
    read_dimension("learner.inner-steps", "int:1:9"),
    read_dimension("net.hidden", [[40, 40], [8]]),
]
OWN = {"train.lr": 0.01, "learner.inner-steps": 5, "net.hidden": [8]}


def a_study(folder: Path, metric: str = "mse", sampler: Sampler = "random", **options: Any) -> Study:
    folder.mkdir(exist_ok=True)
    return Study(SweepFolder(folder), SPACE, metric, sampler=sampler, **options)


def test_the_first_trial_is_the_recipe_as_it_is(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    study.enqueue(OWN)
    assert study.begun == 0 and study.trials == []
    first, second = study.ask(), study.ask()
    assert (first.number, first.values) == (0, OWN)
    assert second.number == 1 and second.values != OWN
    study.enqueue(OWN)
    assert study.ask().values != OWN, "it is given once"


def test_what_was_begun_is_taken_up_with_the_same_values(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    given = [study.ask() for _ in range(3)]
    study.report(1, 10, 0.5)
    study.tell(0, Reached("finished", 0.25, "runs/a"))
    again = a_study(tmp_path)
    assert again.taken_up() == given[1:]
    assert [trial.outcome for trial in again.trials] == ["finished", None, None]
    assert not again.report(1, 10, 0.5), "said again by a trial that is gone on with"
    again.report(1, 20, 0.4)
    again.tell(1, Reached("finished", 0.4, "runs/b"))
    assert again.trials[1].reports == {10: 0.5, 20: 0.4}
    assert (again.best() or again.trials[1]).number == 0
    assert a_study(tmp_path).begun == 3


def test_a_new_start_does_not_draw_again_what_was_drawn(tmp_path: Path) -> None:
    first = [a_study(tmp_path).ask().values["train.lr"] for _ in range(3)]
    assert len(set(first)) == 3
    other = [a_study(tmp_path / "other", seed=1).ask().values["train.lr"]]
    assert other[0] != first[0]
    assert a_study(tmp_path / "same").ask().values["train.lr"] == first[0]


def test_a_line_that_was_being_written_is_cut_off(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    study.ask()
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 6, "worker_id"')
    again = a_study(tmp_path)
    assert again.begun == 1
    assert journal.read_bytes().startswith(whole) and b'"worker_id"\n' not in journal.read_bytes()
    again.ask()
    assert a_study(tmp_path).begun == 2


def test_failures_are_values(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    for reached in (
        Reached("diverged", why="loss became nan"),
        Reached("refused", why="head='shared' needs two steps"),
        Reached("failed", why="ValueError: no"),
        Reached("pruned", run="trials/x", why="stopped"),
    ):
        study.tell(study.ask().number, reached)
    assert study.best() is None
    assert [(t.outcome, t.why[:4], t.value) for t in study.trials] == [
        ("diverged", "loss", None),
        ("refused", "head", None),
        ("failed", "Valu", None),
        ("pruned", "stop", None),
    ]
    assert study.trials[3].run == "x"


@pytest.mark.parametrize(("metric", "best"), [("mse", 0.1), ("accuracy", 0.7)])
def test_the_best_is_the_smallest_error_or_the_largest_accuracy(tmp_path: Path, metric: str, best: float) -> None:
    study = a_study(tmp_path, metric)
    for value in (0.3, 0.1, 0.7, 0.1, 0.7):
        study.tell(study.ask().number, Reached("finished", value))
    found = study.best()
    assert found is not None
    assert found.value == best
    assert found.number == (1 if metric == "mse" else 2), "of equals the first"


def test_where_trainings_diverge_fewer_trials_are_drawn(tmp_path: Path) -> None:
    """The sampler learns of them. Optuna leaves out what failed, and drew 26 to 28 of 30 where all diverge."""
    study = a_study(tmp_path, "accuracy", "tpe")
    for _ in range(40):
        given = study.ask()
        lr = given.values["train.lr"]  # the best rate is the largest that does not diverge
        study.tell(given.number, Reached("diverged", why="x") if lr > 0.1 else Reached("finished", lr))
    assert sum(trial.values["train.lr"] > 0.1 for trial in study.trials[10:]) <= 18


def test_trials_are_stopped_where_others_were_better(tmp_path: Path) -> None:
    study = a_study(tmp_path, "accuracy", warm_up=5)
    for _ in range(5):
        number = study.ask().number
        assert not study.report(number, 10, 0.8)
        study.tell(number, Reached("finished", 0.8))
    bad, good = study.ask().number, study.ask().number
    assert not study.report(bad, 5, 0.1), "too early to say"
    assert study.report(bad, 10, 0.1)
    assert not study.report(good, 10, 0.9)


def test_a_trial_whose_process_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    number = a_study(tmp_path).ask().number
    for death in range(1, DEATHS + 1):
        study = a_study(tmp_path)
        study.taken_up()
        assert study.died(number) is (death == DEATHS)


def test_importance_wants_trials_that_differ(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    assert study.importance() == {}
    for _ in range(12):
        given = study.ask()
        study.tell(given.number, Reached("finished", given.values["train.lr"]))
    found = study.importance()
    assert set(found) == {"train.lr", "learner.inner-steps", "net.hidden"}
    assert sum(found.values()) == pytest.approx(1.0)
    assert max(found, key=lambda key: found[key]) == "train.lr"


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(
        InputError, match=r"Optuna is not installed. Install it with: pip install 'quickstudy\[sweep\]'"
    ):
        need_optuna()
