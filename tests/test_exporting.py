"""Files for other programs: what they say is what quickstudy says."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris

from quickstudy import FewShotClassifier, FewShotRegressor, MetaLearner, exportfile
from quickstudy.cli import main
from quickstudy.errors import InputError, RunError
from quickstudy.shipped import shipped

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

DIGITS, IRIS = load_digits(), load_iris()
DRAW = np.random.default_rng(0)


def run(path: Path, **inputs: Any) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def drawn() -> tuple[Any, Any, Any]:
    return FewShotClassifier().fit(DIGITS.images[:20], DIGITS.target[:20]), DIGITS.images[20:60], "drawings"


def coloured() -> tuple[Any, Any, Any]:
    colours = DRAW.integers(0, 256, (12, 30, 30, 3)).astype(np.uint8)
    return FewShotClassifier(learner="pictures").fit(colours[:6], [0, 0, 1, 1, 2, 2]), colours[6:], "pictures"


def sung() -> tuple[Any, Any, Any]:
    waves = [np.sin(2 * np.pi * pitch * np.arange(8000) / 8000) for pitch in (200, 210, 400, 410, 800, 810, 300)]
    return FewShotClassifier(rate=8000).fit(waves[:6], list("aabbcc")), waves, "sounds"


def table() -> tuple[Any, Any, Any]:
    return FewShotClassifier().fit(IRIS.data[::5], IRIS.target[::5]), IRIS.data, "rows"


def lines() -> tuple[Any, Any, Any]:
    return FewShotClassifier(learner="logistic").fit(IRIS.data[::5], IRIS.target[::5]), IRIS.data, "logistic"


def by_steps() -> tuple[Any, Any, Any]:
    tasks = [(DRAW.normal(size=(20, 4)), np.arange(20) % 3) for _ in range(3)]
    meta = MetaLearner("maml", steps=2, episodes=2, tasks_per_step=2).meta_fit(tasks)
    return meta.adapt(*tasks[0]), tasks[1][0], "maml"


SLOW = pytest.mark.slow  # torch takes seconds for each graph


@pytest.mark.parametrize(
    "made", [drawn, lines, *(pytest.param(made, marks=SLOW) for made in (by_steps, coloured, sung, table))]
)
def test_a_task(made: Callable[[], tuple[Any, Any, str]], tmp_path: Path) -> None:
    model, new, name = made()
    path = tmp_path / "task.onnx"
    assert model.export_onnx(path) < 1e-4
    read: Any = model.reader_.read(new)
    read = read.numpy()
    for some in (slice(None), slice(0, 1)):
        found = run(path, x=read[some])
        assert np.allclose(found["probabilities"], model.predict_proba(new)[some], atol=1e-3), name
    about = json.loads({e.key: e.value for e in onnx.load(str(path)).metadata_props}["quickstudy"])
    assert about["labels"] == model.classes_.tolist() and about["what"] == "task"
    assert about["reader"]["name"] == type(model.reader_).__name__


def test_numbers_in_their_own_units(tmp_path: Path) -> None:
    model = FewShotRegressor(learner="ridge").fit(IRIS.data[:, :3], 1000 * IRIS.data[:, 3])
    model.export_onnx(tmp_path / "task.onnx")
    found = run(tmp_path / "task.onnx", x=IRIS.data[:, :3].astype(np.float32))["values"]
    assert np.allclose(found[:, 0], model.predict(IRIS.data[:, :3]), rtol=1e-4, atol=0.5)
    tasks = [(DRAW.normal(size=(9, 2)), 100 + 20 * DRAW.normal(size=9)) for _ in range(3)]
    scaled = MetaLearner("cnp", steps=2, episodes=2, tasks_per_step=2).meta_fit(tasks).adapt(*tasks[0])
    scaled.export_onnx(tmp_path / "task.onnx")
    found = run(tmp_path / "task.onnx", x=np.asarray(scaled.reader_.read(tasks[1][0])))["values"]
    assert np.allclose(found[:, 0], scaled.predict(tasks[1][0]), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param("sounds", (8000,), marks=SLOW),
        pytest.param("drawings", (28, 28), marks=SLOW),
        pytest.param("pictures", (3, 42, 42), marks=SLOW),
    ],
)
def test_features_of_a_network(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    saved = shipped(name)
    saved.export_onnx(tmp_path / "net.onnx")
    x: Any = DRAW.integers(0, 256, (5, *shape)).astype(np.uint8)
    given: Any = torch.from_numpy(x)
    if name == "sounds":
        x = DRAW.normal(size=(5, *shape)).astype(np.float32)
        given = torch.from_numpy(x)
    found = run(tmp_path / "net.onnx", x=x)["features"]
    with torch.no_grad():
        net: Any = saved.learner.embed.net  # type: ignore[union-attr]
        known = net(given if name == "sounds" else (given.float() / 255).view(5, -1, *shape[-2:])).flatten(1)
    assert np.allclose(found, known.numpy(), atol=1e-4 * float(known.abs().max()))


@SLOW
def test_a_learner_whole_for_ragged_shots(tmp_path: Path) -> None:
    saved = shipped("drawings")
    saved.export_onnx(tmp_path / "learner.onnx", way=3)
    rows = np.concatenate([np.flatnonzero(DIGITS.target == label)[:shot] for label, shot in ((0, 1), (1, 4), (2, 2))])
    model = FewShotClassifier(learner="drawings").fit(DIGITS.images[rows], DIGITS.target[rows])
    assert isinstance(model.support_, torch.Tensor)
    new = DIGITS.images[100:111]
    found = run(
        tmp_path / "learner.onnx",
        support=model.support_.numpy(),
        labels=DIGITS.target[rows].astype(np.int64),
        query=model.reader_.read(new).numpy(),  # type: ignore[union-attr]
    )
    assert np.allclose(found["logits"], model._outputs(new), rtol=1e-3, atol=1e-3)


def test_for_torch(tmp_path: Path) -> None:
    model, new, _ = drawn()
    model.export_torch(tmp_path / "task.pt2")
    extra = {"quickstudy.json": ""}
    program = torch.export.load(tmp_path / "task.pt2", extra_files=extra)
    assert json.loads(extra["quickstudy.json"])["labels"] == list(range(10))
    _, probable = program.module()(model.reader_.read(new))
    assert np.allclose(probable.detach().numpy(), model.predict_proba(new), atol=1e-4)


# --- what is refused -----------------------------------------------------------------------------------


def test_what_is_no_graph_says_so_and_nothing_is_written(tmp_path: Path) -> None:
    model = FewShotClassifier(learner="tf-idf").fit(["a b", "c d"], [0, 1])
    with pytest.raises(InputError, match="Cannot export the task of tf-idf: it reads texts letter by letter"):
        model.export_onnx(tmp_path / "x.onnx")
    with pytest.raises(
        InputError, match=r"Cannot export the features of the learner 'shipped-rows': .* has no network"
    ):
        shipped("rows").export_onnx(tmp_path / "x.onnx")
    with pytest.raises(InputError, match="way must be a number of classes, 2 or more, received 1"):
        shipped("drawings").export_onnx(tmp_path / "x.onnx", way=1)
    with pytest.raises(InputError, match="does not learn classes"):
        shipped("rows-real").export_onnx(tmp_path / "x.onnx", way=2)
    with pytest.raises(InputError, match="it is a folder"):
        shipped("drawings").export_onnx(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_says_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = exportfile._runs_onnx

    def off(*given: Any) -> Any:
        inner = runs(*given)
        return lambda inputs: [leaf + 0.01 for leaf in inner(inputs)]

    monkeypatch.setattr(exportfile, "_runs_onnx", off)
    with pytest.raises(RunError, match=r"the file says something else than quickstudy, by 0\.01"):
        lines()[0].export_onnx(tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs the packages onnx, .* Run pip install 'quickstudy\[onnx\]'"):
        lines()[0].export_onnx(tmp_path / "x.onnx")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines()[0].save(tmp_path / "flowers")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "flowers"), "--onnx", "--out", str(tmp_path / "f.onnx"), "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert (
        said["what"] == "task" and said["difference"] < 1e-4 and (tmp_path / "f.onnx").stat().st_size == said["bytes"]
    )
    for arguments, sentence in [
        (["drawingz"], "There is no task, learner or run at drawingz"),
        ([str(tmp_path / "flowers"), "--onnx", "--torch"], "--onnx and --torch are two files"),
        ([str(tmp_path / "flowers"), "--way", "3"], "--way is for learners"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(["export", *arguments])
        assert ended.value.code == 2 and sentence in capsys.readouterr().err
