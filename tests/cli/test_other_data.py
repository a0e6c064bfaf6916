"""`quickstudy evaluate RUN --data.name ...`: trained on one data set, tested on another; classes seen before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import quickstudy as library
from quickstudy.errors import InputError
from tests.cli.conftest import Command

SMALL = (
    *("--train.steps", "2", "--train.validate-every", "0", "--net.filters", "4", "--data.size", "16"),
    *("--episodes.train.way", "2", "--episodes.test.way", "2", "--episodes.train.query", "1"),
    *("--episodes.test.query", "2", "--ranks", "1"),
)


def noise(folder: Path, classes: list[str]) -> Path:
    """A kind is a colour under noise."""
    rng = np.random.default_rng(len(classes))
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for take in range(4):
            pixels = rng.integers(0, 80, (20, 20, 3)) + 15 * number
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{take}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    noise(root / "mine", [f"kind {n}" for n in range(8)])
    noise(root / "theirs", ["x", "y", "z"])
    return root


@pytest.fixture
def run(quickstudy: Command, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(folders / "cache"))
    done = quickstudy(
        "train", "images-protonet-fast", "--data.folder", folders / "mine", *SMALL, "--runs", tmp_path / "runs"
    )
    assert done.status == 0, done.err
    return Path(done.out.strip())


def test_the_split_is_kept_with_the_run(run: Path, folders: Path) -> None:
    from quickstudy.data import Images

    assert json.loads((run / "split.json").read_text()) == Images(folders / "mine").divided


def test_other_data(run: Path, folders: Path, quickstudy: Command) -> None:
    sizes = ("--episodes", "6", "--ranks", "1", "--json")
    mine = json.loads(quickstudy("evaluate", run, *sizes).out)
    other = ("--data.name", "images", "--data.folder", folders / "theirs", "--data.split", "test")
    done = quickstudy("evaluate", run, *other, *sizes)
    assert done.status == 0, done.err
    theirs = json.loads(done.out)
    assert theirs["source_hash"] != mine["source_hash"] and theirs["recipe_hash"] != mine["recipe_hash"]
    assert len(list((run / "evaluations").glob("*.json"))) == 2, "kept beside the first"
    assert json.loads(quickstudy("evaluate", run, *sizes).out)["per_episode"] == mine["per_episode"]


def test_another_data_set_in_the_report(run: Path, quickstudy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from quickstudy.data.glyphs import Glyphs
    from quickstudy.data.store import ArrayStore

    drawn = np.random.default_rng(0).integers(0, 256, (5, 6, 3, 16, 16), dtype=np.uint8)
    monkeypatch.setattr(Glyphs, "store", ArrayStore.from_classes({str(n): part for n, part in enumerate(drawn)}))
    monkeypatch.setattr(Glyphs, "_roles", {"test": [0, 1, 2, 3, 4]})
    done = quickstudy("evaluate", run, "--episodes", "4", "--ranks", "1", "--data.name", "glyphs")
    assert done.status == 0 and "on glyphs, test" in done.out, done.err
    page = (run / "report.html").read_text()
    assert "2-way 1-shot, glyphs" in page and "meta-trained on images" in page


def test_over_ranks_the_same(run: Path, folders: Path) -> None:
    overrides = {"data.folder": str(folders / "theirs"), "data.split": "test"}
    found = [
        library.evaluate(run, episodes=8, overrides=overrides, ranks=ranks, report=False, device="cpu").per_episode
        for ranks in (1, 2)
    ]
    assert found[0] == found[1]


def test_what_does_not_fit(run: Path, folders: Path, quickstudy: Command) -> None:
    theirs = ("--data.folder", folders / "theirs", "--data.split", "test", "--ranks", "1", "--episodes", "4")
    for option, shape in ((("--data.size", "24"), "[3, 24, 24]"), (("--data.channels", "1"), "[1, 16, 16]")):
        done = quickstudy("evaluate", run, *theirs, *option)
        assert done.status == 2
        assert "it was trained on classes of examples of shape [3, 16, 16], and theirs is " + shape in done.err
        assert "such as --data.size and --data.channels" in done.err
    done = quickstudy("evaluate", run, "--data.name", "sinusoid")
    assert done.status == 2 and "a function has no classes" in done.err, done.err
    for key in ("train.steps", "net.filters", "learner.name"):
        done = quickstudy("evaluate", run, f"--{key}", "3")
        assert done.status == 2 and f"Cannot evaluate with another {key}: only options of the learner's" in done.err


def test_classes_that_it_was_trained_on(run: Path, folders: Path, quickstudy: Command) -> None:
    """With all classes as the test, or with a folder that was divided otherwise when it was trained."""
    done = quickstudy("evaluate", run, "--data.split", "test", "--ranks", "1")
    assert done.status == 2 and "on 'kind " in done.err and "it was trained on them (split.json)" in done.err
    kept = json.loads((run / "split.json").read_text())
    kept["train"].append(kept["test"][0])
    (run / "split.json").write_text(json.dumps(kept))
    with pytest.raises(InputError, match=rf"Cannot test .* on {kept['test'][0]!r}: it was trained on them"):
        library.evaluate(run, episodes=4, report=False)


def test_classes_that_it_was_validated_on(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They chose the checkpoint, and may be validated on again, but are no test."""
    from quickstudy.data import Images
    from quickstudy.runs import check_unseen, recipe_of
    from quickstudy.train import RunFolder

    text = f'name = "a"\n[learner]\nname = "knn"\n[data]\nname = "images"\nfolder = "{folders / "mine"}"\n'
    text += "[episodes.test]\nway = 2\nshot = 1\nquery = 1\n"
    data = Images(folders / "mine")
    for every in (0, 5):
        run = RunFolder.create(tmp_path, "a", 0, text + f"[train]\nsteps = 10\nvalidate-every = {every}\n")
        kept = data.divided | {"validation": data.divided["test"][:1]}
        run.split.write_text(json.dumps(kept))
        check_unseen(run, recipe_of(run), data, "validation")
        if not every:
            check_unseen(run, recipe_of(run), data, "test")
            continue
        with pytest.raises(InputError, match=rf"on {kept['validation'][0]!r}: it was validated on them \(split.json\)"):
            check_unseen(run, recipe_of(run), data, "test")
