"""The commands from end to end, on the data set that needs no files."""

import json
import re
import shutil
from pathlib import Path

import pytest
import typer

from quickstudy import __version__
from quickstudy.cli import app
from quickstudy.cli.options import recipe_keys
from quickstudy.recipes import load_recipe
from tests.cli.conftest import Command

SHORT = ("--steps", "6", "--train.tasks-per-step", "4", "--device", "cpu")


def test_train_evaluate_show(quickstudy: Command, tmp_path: Path) -> None:
    done = quickstudy("train", "sinusoid-maml", *SHORT, "--runs", tmp_path, "--seed", "3", "--learner.inner-lr", "0.02")
    run = tmp_path / "sinusoid-maml-s3-001"
    assert done.status == 0, done.err
    assert done.out == f"{run}\n"
    assert "finished after 6 steps" in done.err
    assert f"Test it on tasks that it has never seen: quickstudy evaluate {run}" in done.err
    assert "inner-lr = 0.02" in (run / "recipe.toml").read_text()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 6

    done = quickstudy("evaluate", run, "--shot", "10", "--query", "20", "--episodes", "30", "--device", "cpu")
    assert done.status == 0, done.err
    assert re.match(r"mse \S+ ± \S+ over 30 episodes; maml on sinusoid, test, 10-shot\n$", done.out)
    results = list((run / "evaluations").glob("*.json"))
    assert len(results) == 1
    assert json.loads(results[0].read_text())["checkpoint"] == "last"
    assert "10-shot" in (run / "report.html").read_text()

    done = quickstudy("show", run)
    assert done.status == 0
    assert f"# {run}: step 6 of 6" in done.out
    assert "10-shot" in done.out
    assert json.loads(quickstudy("show", run, "--json").out)["evaluations"][0]["shot"] == 10


def test_train_says_where_in_json(quickstudy: Command, tmp_path: Path) -> None:
    done = quickstudy("train", "sinusoid-maml", *SHORT, "--runs", tmp_path, "--json")
    found = json.loads(done.out)
    assert found == {"run": str(tmp_path / "sinusoid-maml-s0-001"), "step": 6, "best": None, "best_step": None}


def test_runs_get_new_numbers(quickstudy: Command, tmp_path: Path) -> None:
    for number in ("001", "002"):
        assert quickstudy("train", "sinusoid-maml", *SHORT, "--runs", tmp_path).out.endswith(f"s0-{number}\n")


def test_a_recipe_of_ones_own(quickstudy: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text(quickstudy("show", "sinusoid-maml", "--name", "own", "--train.steps", "4").out)
    done = quickstudy("train", recipe, "--device", "cpu", "--runs", tmp_path / "runs")
    assert done.status == 0, done.err
    assert done.out == f"{tmp_path}/runs/own-s0-001\n"


def test_evaluating_twice_gives_the_same_to_the_last_digit(quickstudy: Command, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    first, second = (json.loads(quickstudy("evaluate", run, "--episodes", "20", "--json").out) for _ in range(2))
    assert first["per_episode"] == second["per_episode"]
    assert first["checkpoint"] == "best"
    assert len(list((run / "evaluations").glob("*.json"))) == 1


def test_adaptation_can_change_after_training(quickstudy: Command, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    few, many = (
        json.loads(quickstudy("evaluate", run, "--episodes", "20", "--learner.test-inner-steps", n, "--json").out)
        for n in (1, 5)
    )
    assert few["per_episode"] != many["per_episode"]
    assert few["recipe_hash"] != many["recipe_hash"]
    assert len(list((run / "evaluations").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("kind", "name"),
    [("learners", "maml"), ("nets", "conv4"), ("data", "omniglot"), ("recipes", "omniglot-protonet-fast")],
)
def test_list(quickstudy: Command, kind: str, name: str) -> None:
    names = quickstudy("list", kind).out.splitlines()
    assert name in names
    assert names == sorted(names)
    assert json.loads(quickstudy("list", kind, "--json").out) == names


def test_list_runs(quickstudy: Command, trained: Path, tmp_path: Path) -> None:
    done = quickstudy("list", "runs", "--runs", trained.parent)
    assert re.match(
        rf"{trained}  finished  step 20/20  maml on sinusoid  best validation mse \S+  \d evaluations?\n$", done.out
    )
    assert json.loads(quickstudy("list", "runs", "--runs", trained.parent, "--json").out)[0]["step"] == 20
    none = quickstudy("list", "runs", "--runs", tmp_path)
    assert (none.status, none.out) == (0, "")
    assert f"There are no runs in {tmp_path}." in none.err


def test_show_tells_what_a_split_is(quickstudy: Command) -> None:
    out = quickstudy("show", "omniglot-maml-5w1s").out
    assert out.startswith("# The split 'maml' has the sizes of the paper")
    assert '[data]\nname = "omniglot"\nsplit = "maml"' in out
    assert json.loads(quickstudy("show", "omniglot-maml-5w1s", "--json").out)["learner"]["name"] == "maml"


def test_version(quickstudy: Command) -> None:
    assert quickstudy("--version").out == f"{__version__}\n"


def test_help_does_not_wait_for_torch(process: Command) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom quickstudy.cli import main\n"
        "try:\n    main(['train', '--help'])\nfinally:\n    assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--data-root" in done.stdout
    assert process().status in (0, 2)


@pytest.mark.parametrize("command", ["fetch", "train", "evaluate", "sweep", "demo", "list", "runs", "report", "show"])
def test_every_command_has_a_help(quickstudy: Command, command: str) -> None:
    done = quickstudy(command, "--help")
    assert done.status == 0
    assert "--debug" in done.out


@pytest.mark.filterwarnings("default")
def test_a_warning_is_a_sentence_and_how_steps_were_compiled_is_kept(
    quickstudy: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(*args: object, **kwargs: object) -> None:
        raise RuntimeError("No working C++ compiler found.")

    monkeypatch.setattr("torch._inductor.compile", no_compiler)
    short = ("--steps", 2, "--train.validate-every", 0, "--runs", tmp_path, "--ranks", 1)
    done = quickstudy("train", "sinusoid-maml", "--train.compile", "inductor", *short)
    assert done.status == 0
    (said,) = (line for line in done.err.splitlines() if line.startswith("warning: "))
    assert said.startswith("warning: torch's inductor cannot compile this meta-step on this machine (No working C++")
    assert ".py" not in done.err
    about = json.loads((tmp_path / "sinusoid-maml-s0-001" / "environment.json").read_text())
    assert about["compiled"] == ["trace, as inductor cannot compile here (No working C++ compiler found)"]
    assert "compiled: trace, as inductor cannot compile here" in done.err


def test_a_strategy_that_does_not_fit_names_the_option(quickstudy: Command, tmp_path: Path) -> None:
    done = quickstudy("train", "sinusoid-maml", "--steps", 1, "--learner.strategy", "packed", "--runs", tmp_path)
    assert done.status == 2
    assert "learner.strategy" in done.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (["--sounds", "own"], {"data.name": "sounds", "data.folder": "own"}),
        (["--bars", "own"], {"data.name": "bars", "data.folder": "own"}),
        (["--bars=own/all.csv"], {"data.name": "bars", "data.file": "own/all.csv"}),
        (["--ratings", "own/all.csv"], {"data.name": "ratings", "data.file": "own/all.csv"}),
        (
            ["--table", "own/all.csv", "--group", "ward"],
            {"data.name": "table", "data.file": "own/all.csv", "data.group": "ward"},
        ),
    ],
)
def test_own_files_have_short_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: list[str], long: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "all.csv").write_text("")
    context = typer.Context(typer.main.get_command(app).commands["train"])  # type: ignore[attr-defined]
    context.args = short
    assert recipe_keys(context) == long


def test_paths_of_own_files_are_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run can be tested from another folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    recipe = load_recipe("sounds-protonet-fast", {"data.folder": "own"})
    assert recipe.data.options["folder"] == str(tmp_path / "own")
