"""An outside package (tests/plugin) joins by entry points: listed, checked, trained, evaluated, loaded."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def with_plugin(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Python with the package installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("plugin")
    source, site = folder / "source", folder / "site"
    shutil.copytree(Path(__file__).parent / "plugin", source)  # a build leaves files in its source
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(site), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    paths = [str(site), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)

    return run


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("learners", "soft-neighbours"),
        ("nets", "linear"),
        ("data", "blobs"),
        ("recipes", "blobs-soft-neighbours-3w2s"),
    ],
)
def test_it_is_listed(with_plugin: Run, kind: str, name: str) -> None:
    assert name in with_plugin("-m", "quickstudy", "list", kind).stdout.splitlines()


def test_its_options_are_checked(with_plugin: Run) -> None:
    done = with_plugin("-m", "quickstudy", "show", "blobs-soft-neighbours-3w2s", "--learner.temprature", "1")
    assert done.returncode == 2
    assert "There is no key called 'learner.temprature'. Did you mean 'learner.temperature'?" in done.stderr
    done = with_plugin("-m", "quickstudy", "show", "blobs-soft-neighbours-3w2s", "--data.spread", "wide")
    assert "--data.spread: expected a number, found 'wide'." in done.stderr


def test_it_is_trained_and_evaluated(with_plugin: Run, tmp_path: Path) -> None:
    done = with_plugin("-m", "quickstudy", "train", "blobs-soft-neighbours-3w2s", "--runs", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    done = with_plugin("-m", "quickstudy", "evaluate", run, "--way", "5", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["learner"], result["data"], result["way"]) == ("soft-neighbours", "blobs", 5)
    assert result["mean"] - result["ci95"] > 0.3  # chance is 0.2
    code = f"import quickstudy; print(type(quickstudy.load({run!r})).__module__)"
    assert with_plugin("-c", code).stdout == "quickstudy_blobs.learner\n"


def test_its_learner_holds_the_laws_in_one_line(with_plugin: Run) -> None:
    test = Path(__file__).parent / "plugin" / "test_learner.py"
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", os.devnull, "--rootdir", test.parent]
    done = with_plugin("-m", "pytest", *options, test)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) >= 28


def test_one_that_cannot_be_imported_is_named(with_plugin: Run) -> None:
    done = with_plugin("-m", "quickstudy", "show", "blobs-soft-neighbours-3w2s", "--data.name", "unfinished")
    assert done.returncode == 2
    assert "The data set 'unfinished' of the installed package 'quickstudy-blobs' cannot be imported" in done.stderr
    assert "Mend or uninstall that package." in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_package_its_names_are_unknown() -> None:
    from quickstudy.errors import UnknownName
    from quickstudy.learners import learners

    with pytest.raises(UnknownName, match="There is no learner called 'soft-neighbours'"):
        learners.get("soft-neighbours")
