"""What people hand to ``quickstudy learn``, ``add`` and ``predict`` by mistake; and two of them at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quickstudy.data import picturefiles
from quickstudy.errors import InputError, StorageError
from quickstudy.estimators import FewShotClassifier, load_task
from quickstudy.estimators.tasklock import held
from quickstudy.sealed import refuse_pickles
from tests.cli.conftest import Command


def pictures(folder: Path, classes: str = "ab", n: int = 3, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for number in range(n):
            pixels = draw.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def task() -> Path:
    rows = np.arange(12.0).reshape(6, 2)
    model = FewShotClassifier(learner="knn").fit(rows, list("aaabbb"))
    model.name_examples(list("012345"), ["x", "y"])
    model.save("task")
    return Path("task")


def test_what_systems_leave_and_rings_of_links(quickstudy: Command) -> None:
    pictures(Path("p"))
    for left in ("p/.DS_Store", "p/a/.DS_Store", "p/a/Thumbs.db", "p/a/._0.png"):
        Path(left).write_bytes(b"\0")
    Path("p/.git").mkdir()
    Path("p/a/up").symlink_to("..")
    Path("p/a/itself").symlink_to(".")
    done = quickstudy("learn", "p", "--out", "t", "--learner", "knn")
    assert done.status == 0 and done.out.startswith("2 classes of pictures: a (3), b (3)"), done
    Path("p/b/gone.png").symlink_to("nowhere")
    assert "Cannot read p/b/gone.png: No such file" in quickstudy("learn", "p", "--out", "u").err
    kept = quickstudy("predict", "t", "p", "--skip", "--json")
    assert kept.status == 0 and list(json.loads(kept.out)["left_out"]) == ["p/b/gone.png"]


def test_a_folder_that_nobody_may_read(quickstudy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(Path("p"))

    def refused(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refused)
    done = quickstudy("learn", "p", "--out", "t")
    assert done.status == 2 and "Cannot read p: Permission denied. Check who may read it." in done.err


def test_an_empty_class_is_left_out_where_that_is_wanted(quickstudy: Command) -> None:
    pictures(Path("p"))
    Path("p/c").mkdir()
    assert "Cannot use the class 'c'" in quickstudy("learn", "p", "--out", "t").err
    done = quickstudy("learn", "p", "--out", "t", "--learner", "knn", "--skip", "--json")
    assert done.status == 0 and list(json.loads(done.out)["left_out"]) == ["p/c"]


def test_a_picture_is_measured_before_it_is_decoded(quickstudy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(Path("p"))
    Image.new("1", (10000, 10000)).save("p/a/large.png")

    def decoded(*given: object) -> None:
        raise AssertionError("its pixels were made")

    with monkeypatch.context() as patched:
        patched.setattr("PIL.PngImagePlugin.PngImageFile.load", decoded)
        with pytest.raises(InputError, match=r"^Cannot use large: it has 10000 x 10000 pixels; expected at most 65"):
            picturefiles.decode(Path("p/a/large.png").read_bytes(), "large")
    done = quickstudy("learn", "p", "--out", "t", "--learner", "knn", "--skip")
    assert done.status == 0 and "left out: p/a/large.png: Cannot use p/a/large.png: it has 10000 x 10000" in done.err


def test_pickles_and_files_that_were_changed(task: Path, quickstudy: Command) -> None:
    for name, content in (("more.pkl", b"x"), ("state.bin", b"\x80\x04\x95rest")):
        shutil.copytree(task, "bad")
        (Path("bad") / name).write_bytes(content)
        done = quickstudy("inspect", "bad")
        assert done.status == 2 and f"it holds {name}, which is or may be a pickle" in done.err
        with pytest.raises(InputError, match="may be a pickle"):
            refuse_pickles(Path("bad"))
        assert "may be a pickle" in quickstudy("learn", "x.csv", "--out", "y", "--learner", "bad").err
        shutil.rmtree("bad")
    shutil.copytree(task, "bad")
    about = Path("bad/task.json")
    about.write_text(about.read_text().replace('"a"', '"c"'))
    done = quickstudy("inspect", "bad")
    assert done.status == 1 and "task.json was changed" in done.err and "Traceback" not in done.err


def test_very_many_classes(quickstudy: Command) -> None:
    lines = [f"{number % 97},{number % 89},{number % 83},c{number}" for number in range(10_000)]
    Path("many.csv").write_text("\n".join(["x,y,z,label", *lines]) + "\n")
    done = quickstudy("learn", "many.csv", "--out", "many", "--learner", "knn", "--json")
    assert done.status == 0, done.err
    assert len(json.loads(done.out)["classes"]) == 10_000
    short = quickstudy("inspect", "many").out
    assert short.startswith("10000 classes of rows: c0 (1), ") and "and 9950 more" in short and len(short) < 2000


def test_labels_of_several_kinds_in_a_file_are_words(quickstudy: Command) -> None:
    rows = [("hello", 1), ("good morning", "1"), ("good bye", "x"), ("see you", 2.0)]
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    Path("t.jsonl").write_text("\n".join(lines))
    done = quickstudy("learn", "t.jsonl", "--out", "t", "--learner", "tf-idf")
    assert done.status == 0 and done.out.startswith("3 classes of texts: 1 (2), 2 (1), x (1)"), done
    Path("t.jsonl").write_text("\n".join([*lines, json.dumps({"text": "a", "label": True})]))
    done = quickstudy("learn", "t.jsonl", "--out", "u")
    assert done.status == 2 and "Cannot use line 5 of t.jsonl: the label is True, not words" in done.err


def test_examples_that_the_task_has_already(quickstudy: Command) -> None:
    pictures(Path("p"))
    assert quickstudy("learn", "p", "--out", "t", "--learner", "knn").status == 0
    again = quickstudy("add", "t", "p/a")
    assert again.status == 0 and "nothing was added" in again.err and "a (3)" in again.out
    assert again.err.count("the task has it already, as p/a/") == 3
    assert "a (6)" in quickstudy("add", "t", "p/a", "--keep-doubles").out
    pictures(Path("q"), "b", 1, seed=1)
    shutil.copy("p/a/0.png", "q/b/other.png")
    odd = quickstudy("add", "t", "q")
    assert "warning: q/b/other.png is 'b', and the same example p/a/0.png is 'a'" in odd.err and "b (5)" in odd.out


def test_silence_is_said(quickstudy: Command) -> None:
    soundfile = pytest.importorskip("soundfile")
    draw = np.random.default_rng(0)
    for label in "ab":
        Path("s", label).mkdir(parents=True)
        for number in range(2):
            soundfile.write(f"s/{label}/{number}.wav", draw.normal(size=4000) * (label == "a" or number), 8000)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = quickstudy("learn", "s", "--out", "t", "--learner", "knn")
    assert done.status == 0 and "warning: Nothing is to be heard in s/b/0.wav. Record it again" in done.err


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "quickstudy", *arguments]


def test_two_writers_at_once_lose_nothing(task: Path) -> None:
    for writer in range(2):
        lines = "".join(f"{writer}.{k},{k},new{writer}\n" for k in range(3))
        Path(f"{writer}.csv").write_text(f"x,y,label\n{lines}")
    adding = [command("add", "task", f"{writer}.csv") for writer in range(2)]
    writers = [subprocess.Popen(one, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for one in adding]
    for one in writers:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said
    after = load_task("task")
    assert isinstance(after, FewShotClassifier)
    assert after.classes_.tolist() == ["a", "b", "new0", "new1"] and len(after.labels_) == 12


def test_a_writer_that_waits_too_long_says_so(task: Path) -> None:
    with held(task), pytest.raises(StorageError, match="another process has been changing it"):
        with held(task, patience=0.1):
            pass
    with held(task, patience=0.1):
        pass


KILLED = """
import os, signal, quickstudy.estimators.savedtask as saved
from quickstudy.cli import main
real = os.replace
def die(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)
def half(one, other):
    real(one, other)
    if str(other).endswith(".old"):
        die()
{where}
main(["add", "task", "more.csv"])
"""


@pytest.mark.parametrize("where", ["saved.seal = die", "os.replace = half"], ids=["while writing", "between renames"])
def test_killed_in_the_middle(where: str, task: Path, quickstudy: Command) -> None:
    Path("more.csv").write_text("x,y,label\n1,1,c\n2,1,c\n")
    done = subprocess.run([sys.executable, "-c", KILLED.format(where=where)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    after = load_task("task")
    assert len(after.labels_) == (8 if "half" in where else 6), "the old one or the new one, whole"
    assert after.nearest_examples([[0.0, 1.0]], n=1) == [[("0", "a", 0.0)]]
    assert quickstudy("add", "task", "more.csv").status == 0
    assert len(load_task("task").labels_) == 8


def test_interrupted(task: Path) -> None:
    Path("more.csv").write_text("x,y,label\n1,1,c\n")
    with held(task):
        running = subprocess.Popen(
            command("add", "task", "more.csv"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever was started in the background ignores Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            until = time.monotonic() + 60
            while not any("task.lock" in os.readlink(f"/proc/{running.pid}/fd/{fd}") for fd in _fds(running.pid)):
                assert time.monotonic() < until and running.poll() is None
                time.sleep(0.1)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130 and said.strip().endswith("interrupted."), said
    assert len(load_task("task").labels_) == 6


def _fds(pid: int) -> list[str]:
    try:
        return [fd for fd in os.listdir(f"/proc/{pid}/fd") if os.path.islink(f"/proc/{pid}/fd/{fd}")]
    except OSError:
        return []
