"""`quickstudy evaluate RUN --data.name ...`: trained on one data set, tested on another; classes seen before."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import quickstudy as library
from quickstudy.errors import DataError, InputError
from quickstudy.runs import as_trained
from quickstudy.train import RunFolder
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
    page = (run / "report.html").read_text()
    assert re.search(r"query of class [xyz], predicted [xyz]", page), "classes by their names"
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
    from quickstudy.data.source import Origin, TaskShape
    from quickstudy.runs import seen_by
    from quickstudy.train import RunFolder

    text = f'name = "a"\n[learner]\nname = "knn"\n[data]\nname = "images"\nfolder = "{folders / "mine"}"\n'
    text += "[episodes.test]\nway = 2\nshot = 1\nquery = 1\n"
    data = Images(folders / "mine")
    tested = Origin(data.place, tuple(data.divided["test"]))
    for every in (0, 5):
        run = RunFolder.create(tmp_path, "a", 0, text + f"[train]\nsteps = 10\nvalidate-every = {every}\n")
        kept = data.divided | {"validation": data.divided["test"][:1]}
        run.split.write_text(json.dumps(kept))
        seen = seen_by(run, TaskShape((3, 84, 84), "classes", 2))
        seen.check_names(tested, "validation")
        if not every:
            seen.check_names(tested, "test")
            continue
        with pytest.raises(InputError, match=rf"on {kept['validation'][0]!r}: it was validated on them \(split.json\)"):
            seen.check_names(tested, "test")


def of_training(run: Path) -> str:
    return str(json.loads((run / "split.json").read_text())["train"][0])


@pytest.mark.parametrize("how", ["moved", "linked", "renamed", "grown", "inside"])
def test_the_same_pictures_elsewhere(run: Path, folders: Path, tmp_path: Path, quickstudy: Command, how: str) -> None:
    """A folder that was moved, linked or renamed holds the same pictures, and so does a class that has got more."""
    name, other = of_training(run), tmp_path / "other"
    shutil.copytree(folders / "theirs", other)
    if how == "linked":
        (other / name).symlink_to(folders / "mine" / name)
    else:
        called = name if how == "moved" else "something else"
        shutil.copytree(folders / "mine" / name, other / called)
        name = called
    if how == "grown":
        for take in (0, 1, 2):
            (other / name / f"{take}.png").unlink()
        for take, picture in enumerate((other / "x").iterdir()):
            pixels = np.asarray(Image.open(picture))
            Image.fromarray(pixels[::-1].copy()).save(other / name / f"new {take}.png")
    if how == "inside":  # of another class, in another format, under another name
        Image.open(other / name / "1.png").save(other / "x" / "photo.bmp")
        shutil.rmtree(other / name)
        name = "x"
    refused = quickstudy("evaluate", run, "--images", other, "--data.split", "test", "--ranks", "1", "--episodes", "4")
    said = {"grown": "1 of 5", "inside": "1 of 5"}.get(how, "4 of 4")
    assert refused.status == 2 and f"on {name!r}: it was trained on the same examples ({said} of" in refused.err
    assert not (run / "evaluations").exists() or not list((run / "evaluations").iterdir()), "nothing was measured"


def test_the_run_in_another_place(run: Path, folders: Path, tmp_path: Path, quickstudy: Command) -> None:
    """Its own folder, moved and linked to; its test classes are as new as before, all of them are not."""
    moved, link = tmp_path / "moved", tmp_path / "link"
    shutil.copytree(folders / "mine", moved)
    link.symlink_to(folders / "mine")
    for place in (moved, link):
        done = quickstudy("evaluate", run, "--images", place, "--ranks", "1", "--episodes", "4")
        assert done.status == 0, done.err
        done = quickstudy("evaluate", run, "--images", place, "--data.split", "test", "--ranks", "1", "--episodes", "4")
        assert done.status == 2 and "it was trained on" in done.err, done.err


def test_a_class_renamed_since(run: Path, folders: Path, tmp_path: Path) -> None:
    """In the run's own folder: its new name may put it into the test."""
    from quickstudy.data import Images

    mine = folders / "mine"
    name = of_training(run)
    kept = Images(mine).divided["test"]
    for attempt in range(100):
        called = f"name {attempt}"
        (mine / name).rename(mine / called)
        try:
            if called not in Images(mine).divided["test"]:
                continue
            with pytest.raises(InputError, match=rf"on '{called}'.*: it was trained on the same examples \(4 of 4 of"):
                library.evaluate(run, episodes=4, report=False)
            break
        finally:
            (mine / called).rename(mine / name)
    else:
        pytest.fail("no name put the class into the test")
    assert Images(mine).divided["test"] == kept


def test_tasks_made_in_python(run: Path, folders: Path) -> None:
    """`load` and `meta_test` refuse what `evaluate` refuses."""
    from quickstudy.data import Images, Sinusoid
    from quickstudy.evaluate import meta_test

    learner = library.load(run)
    sizes = {"way": 2, "shot": 1, "query": 1, "seed": 0}
    everything = Images(folders / "mine", split="test", size=16).tasks("test", **sizes)
    with pytest.raises(InputError, match=r"Cannot test .* on 'kind \d', .*: it was trained on them \(split\.json\)"):
        meta_test(learner, everything, episodes=2)
    with pytest.raises(InputError, match=r"of shape \[3, 16, 16\], and theirs is \[3, 24, 24\] \(classes\)"):
        meta_test(learner, Images(folders / "theirs", split="test", size=24).tasks("test", **sizes), episodes=2)
    with pytest.raises(InputError, match=r"theirs is \[1\] \(real\)|learns only 'classes'"):
        meta_test(learner, Sinusoid().tasks("test", shot=5, seed=0), episodes=2)
    mine = Images(folders / "mine", size=16)
    for role in ("train", "validation", "test"):  # tasks that say that they are of the training are no test by mistake
        assert meta_test(learner, mine.tasks(role, **sizes), episodes=2).split == role
    trained = library.train(run, resume=True)
    with pytest.raises(InputError, match=r"it was trained on them"):
        meta_test(trained.learner, everything, episodes=2)


@pytest.mark.parametrize("name", ["examples.json", "split.json"])
@pytest.mark.parametrize("text", ['{"train": "no base 64"}', '{"train": 3}', '{"train": ["a", ', "[]", ""])
def test_what_a_run_keeps_is_damaged(run: Path, name: str, text: str) -> None:
    (run / name).write_text(text)
    with pytest.raises(InputError, match=rf"Cannot read .*{name}, which says what the run was trained on: .*Copy the"):
        library.load(run)
    (run / name).unlink()
    assert library.load(run).seen is not None, "an older run may lack it"


def test_a_damaged_split_of_a_table_is_said_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.table.write_text("{}")
    run.split.write_text("[")
    table: Any = SimpleNamespace(as_trained=lambda measured, divided: None)
    with pytest.raises(DataError, match=r"^Cannot read \S*split\.json, which says what the run was trained on: "):
        as_trained(run, table)
