"""`quickstudy doctor`: a table, or JSON, and a status."""

import json
import shutil
from pathlib import Path

import pytest

from quickstudy.learners import MAML, Traits
from tests.cli.conftest import Command


def test_a_recipe(quickstudy: Command) -> None:
    done = quickstudy("doctor", "sinusoid-maml", "--device", "cpu")
    assert done.status == 0, done.err
    assert done.out.startswith("labels ")
    assert "Agrees with finite differences" in done.out
    assert "There: without it the gradient changes by" in done.out
    assert done.out.splitlines()[-1].startswith("MAML: no problem in ")


def test_options_of_the_recipe(quickstudy: Command) -> None:
    done = quickstudy("doctor", "sinusoid-maml", "--learner.first-order", "--device", "cpu", "--json")
    findings = {finding["check"]: finding for finding in json.loads(done.out)["findings"]}
    assert findings["second order"]["found"] == "First order, or a surrogate, as declared."


def test_a_run(quickstudy: Command, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    done = quickstudy("doctor", run, "--device", "cpu", "--tasks", "3", "--seed", "1", "--json")
    document = json.loads(done.out)
    assert (done.status, document["healthy"], document["learner"]) == (0, True, "MAML")


def test_problems_are_in_the_status(quickstudy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def traits(self: MAML) -> Traits:
        return Traits(targets=("real",), any_way=False, exact_meta_gradient=True)

    monkeypatch.setattr(MAML, "traits", property(traits))
    done = quickstudy("doctor", "sinusoid-maml", "--learner.first-order", "--device", "cpu")
    assert done.status == 1
    assert "Promised, but not there" in done.out
    assert done.err == ""


def test_what_there_is_not(quickstudy: Command) -> None:
    done = quickstudy("doctor", "sinusoid-mamel")
    assert done.status == 2
    assert "Did you mean 'sinusoid-maml'?" in done.err
    done = quickstudy("doctor", "sinusoid-maml", "--tasks", "0", "--device", "cpu")
    assert done.status == 2
    assert "needs tasks of at least 1" in done.err
