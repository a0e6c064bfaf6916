"""`quickstudy evaluate RUN --robustness`, and runs of Omniglot on Lake's 20 runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import quickstudy as library
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.controltasks import PointNavigation
from quickstudy.data.glyphs import Glyphs
from quickstudy.data.source import TaskSource
from quickstudy.data.store import ArrayStore
from quickstudy.errors import InputError, StorageError
from quickstudy.evaluate import Result, meta_test
from quickstudy.evaluate.answered import Unchanged, mean_of
from quickstudy.evaluate.robustness import Robustness
from quickstudy.learners.protonet import ProtoNet
from quickstudy.reports import report
from quickstudy.runs import open_run, results_of
from quickstudy.stressing import Stressed, _uneven, check_classes, robustness_of, save_robustness, stress
from tests.cli.conftest import Command

SMALL = (
    *("--train.steps", "2", "--train.validate-every", "0", "--net.filters", "4", "--ranks", "1", "--device", "cpu"),
    *("--episodes.train.way", "3", "--episodes.train.query", "2"),
)


@pytest.fixture
def glyphs(quickstudy: Command, tmp_path: Path) -> Path:
    sizes = ("--episodes.test.way", "3", "--episodes.test.query", "4")
    done = quickstudy("train", "glyphs-protonet-fast", *SMALL, *sizes, "--runs", tmp_path / "runs")
    assert done.status == 0, done.err
    return Path(done.out.strip())


def test_figures_are_printed_saved_and_shown(glyphs: Path, quickstudy: Command) -> None:
    done = quickstudy("evaluate", glyphs, "--episodes", "8", "--robustness", "--ranks", "1")
    assert done.status == 0, done.err
    assert done.out.startswith("accuracy ") and "Robustness of protonet, 8 episodes" in done.out
    (path,) = (glyphs / "evaluations" / "robustness").glob("*.json")
    (saved,) = (glyphs / "evaluations").glob("*.json")
    found, result = Robustness.load(path), Result.load(saved)
    names = [one.name for one in found.figures]
    for wanted in (
        *("unchanged tasks", "5th percentile of episodes", "ECE", "worst class of each task"),
        *("unknown classes, by probability", "unknown classes, by distance"),
        *("10 % wrong labels", "20 % wrong labels", "20 % wrong labels, 5 shots", "queries turned by 90°"),
        *("queries with pixel noise of 0.2", "1-shot", "5-shot", "10-shot", "19-shot", "2-way", "20-way", "100-way"),
    ):
        assert wanted in names, wanted
    clean, turned = found.by_name("unchanged tasks"), found.by_name("queries turned by 90°")
    assert clean is not None and clean.value == pytest.approx(result.mean) and found.source == result.source
    assert turned is not None and turned.difference is not None
    assert turned.difference[0] == pytest.approx(turned.value - clean.value)
    one, same = found.by_name("1-shot"), found.by_name("5-way")
    assert one is not None and one.value == clean.value and same is not None
    # Eight tasks are too few to call a class the worst, and nobody knows who drew a glyph.
    assert "8 episodes are too few" in found.not_asked["the worst class"]
    assert "who made the examples of glyphs/test" in found.not_asked["queries by other people"]
    assert "uneven queries" not in found.not_asked, "asked of transductive learners alone"
    page = (glyphs / "report.html").read_text(encoding="utf-8")
    assert "queries turned by 90°" in page and "Curve, shots accuracy against shots" in page
    full = report([glyphs], episodes=0).read_text(encoding="utf-8")
    assert "Robustness, as saved by quickstudy evaluate" in full and "queries turned by 90°" in full


def test_each_test_says_what_it_can_of_itself(glyphs: Path) -> None:
    """The same from one process or two; it does not take the place of figures that were asked for."""
    folder = open_run(glyphs)
    result = library.evaluate(glyphs, episodes=40, report=False, device="cpu", ranks=1)
    alone = robustness_of(folder, result)
    assert alone is not None and not alone.is_whole and alone.not_asked == {}
    assert [one.kind for one in alone.figures] == ["unchanged"] * 4
    assert alone.figures[0].value == pytest.approx(result.mean) and alone.figures[3].value < result.mean
    (folder.robustness / f"{alone.id}.json").unlink()
    library.evaluate(glyphs, episodes=40, report=False, device="cpu", ranks=2, tasks_at_once=8)
    divided = robustness_of(folder, result)
    assert divided is not None and divided.figures == alone.figures
    library.evaluate(glyphs, episodes=10, report=False, device="cpu")
    assert robustness_of(folder, result) == divided, "of as many episodes as the result"
    asked = replace(alone, figures=(*alone.figures, mean_of("shots", "1-shot", np.array([0.5, 0.7]), at=1.0)))
    save_robustness(folder, asked)
    library.evaluate(glyphs, episodes=40, report=False, device="cpu")
    assert robustness_of(folder, result) == asked


def test_a_report_says_of_which_tasks_the_figures_are(glyphs: Path) -> None:
    """Each test leaves some; the last ones are shown, which may be of other tasks than those of another run."""
    for way, episodes in ((3, 6), (2, 4)):
        library.evaluate(glyphs, way=way, episodes=episodes, report=False, device="cpu", ranks=1)
    page = report([glyphs], episodes=0).read_text(encoding="utf-8")
    assert "protonet: 4 episodes of glyphs, test, 2-way 1-shot." in page and "protonet: 6 episodes" not in page


def test_figures_that_vanish_or_lead_nowhere_are_passed_over(glyphs: Path) -> None:
    folder = open_run(glyphs)
    result = library.evaluate(glyphs, episodes=4, report=False, device="cpu", ranks=1)
    (folder.robustness / "gone.json").symlink_to(glyphs / "nowhere.json")
    said: list[str] = []
    found = robustness_of(folder, result, said.append)
    assert found is not None and found.episodes == 4
    assert len(said) == 1 and "Cannot read the robustness figures" in said[0] and "gone.json" in said[0]


def test_figures_that_could_not_be_saved_are_refused_before_the_test(
    glyphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_run(glyphs)
    folder.robustness.mkdir(parents=True)
    monkeypatch.setattr("quickstudy.files.os.access", lambda path, mode: path != folder.robustness)
    with pytest.raises(StorageError, match=r"nothing can be written there\. Nothing was measured\."):
        library.evaluate(glyphs, episodes=4, report=False, device="cpu", ranks=1)
    assert results_of(folder) == []


def test_a_run_that_is_trained_on_while_it_is_tested(
    glyphs: Path, quickstudy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (1,))
    monkeypatch.setattr("quickstudy.stressing.WAYS", (2,))
    monkeypatch.setattr("quickstudy.stressing.state_of", lambda folder: {"weights_sha256": "of the next step"})
    done = quickstudy("evaluate", glyphs, "--episodes", "8", "--robustness", "--ranks", "1", "--json")
    assert done.status == 1 and "was trained on by another process while it was tested" in done.err
    said: list[str] = []
    assert robustness_of(open_run(glyphs), tell=said.append) is None
    assert "is of the checkpoint 'last' before it was trained on." in said[0]


def test_one_document_of_json(glyphs: Path, quickstudy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (1,))
    monkeypatch.setattr("quickstudy.stressing.WAYS", (2,))
    done = quickstudy("evaluate", glyphs, "--episodes", "4", "--robustness", "--json", "--ranks", "1")
    found = json.loads(done.out)
    assert set(found) == {"result", "robustness"} and found["robustness"]["episodes"] == 4
    assert found["result"]["mean"] == found["robustness"]["figures"][0]["value"]


def test_many_episodes_have_a_worst_class(glyphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("_rejection", "_changed", "_other_people", "_shots", "_ways"):
        monkeypatch.setattr(f"quickstudy.stressing.{kind}", lambda *given: None)
    library.evaluate(glyphs, episodes=200, robustness=True, report=False, device="cpu", tasks_at_once=50)
    found = robustness_of(open_run(glyphs))
    assert found is not None
    (worst,) = (one for one in found.figures if one.kind == "worst class")
    assert worst.name == "worst of 15 classes" and worst.value < found.figures[0].value
    assert library.load(glyphs) is not None


@pytest.mark.parametrize("sizes", [{"shot": (1, 2)}, {"query": (2, 4)}])
def test_tasks_of_random_sizes(glyphs: Path, monkeypatch: pytest.MonkeyPatch, sizes: dict[str, Any]) -> None:
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (1,))
    monkeypatch.setattr("quickstudy.stressing.WAYS", (2,))
    library.evaluate(glyphs, episodes=4, robustness=True, report=False, device="cpu", ranks=1, **sizes)
    found = robustness_of(open_run(glyphs))
    assert found is not None
    names = {one.name for one in found.figures}
    assert {"10 % wrong labels", "20 % wrong labels, 5 shots", "queries turned by 90°", "1-shot", "2-way"} <= names


@pytest.mark.parametrize(
    "learner", ["bd-cspn", "alpha-tim", *(pytest.param(n, marks=pytest.mark.slow) for n in ("pt-map", "laplacianshot"))]
)
def test_transductive_learners_are_asked_uneven_queries(
    learner: str, quickstudy: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the even ones that they stand beside, in tasks of the same classes."""
    small: dict[str, Any] = {
        "train.steps": 2,
        "train.batch": 8,
        "net.filters": 4,
        "data.name": "glyphs",
        "data.size": 28,
    }
    small |= {"episodes.test.way": 3, "episodes.test.query": 12} | ({"learner.steps": 3} if "tim" in learner else {})
    run = library.train(f"omniglot-{learner}-fast", overrides=small, runs=tmp_path, device="cpu", ranks=1)
    for kind in ("_worst", "_rejection", "_changed", "_other_people", "_shots", "_ways"):
        monkeypatch.setattr(f"quickstudy.stressing.{kind}", lambda *given: None)
    asked: list[Result] = []
    test = Stressed.test

    def watched(self: Stressed, source: TaskSource, **more: Any) -> Result:
        asked.append(test(self, source, **more))
        return asked[-1]

    monkeypatch.setattr(Stressed, "test", watched)
    unchanged = library.evaluate(run, episodes=6, robustness=True, report=False, device="cpu", ranks=1)
    uneven, even = asked  # the unchanged tasks are not tested twice
    assert uneven.source["dirichlet"] == 2 and "dirichlet" not in {*unchanged.source, *even.source}
    assert {k: v for k, v in uneven.source.items() if k != "dirichlet"} == even.source
    assert unchanged.source == even.source | {"query": 12}
    found = robustness_of(open_run(run.path))
    assert found is not None and found.transductive and found.not_asked == {}
    (figure,) = (one for one in found.figures if one.kind == "uneven")
    few = even.query
    assert figure.name == f"uneven queries (Dirichlet 2), {few} a class on average" and few in (2, 3, 5)
    assert figure.value == pytest.approx(uneven.mean) and figure.difference is not None
    assert figure.difference[0] == pytest.approx(uneven.mean - even.mean)


@pytest.mark.parametrize(
    ("recipe", "refused"),
    [
        ("heart-maml-fast", "unknown rejection, the worst class"),
        pytest.param("clinc150-protonet-fast", "", marks=pytest.mark.slow),
    ],
)
def test_classes_that_are_no_pictures(
    recipe: str, refused: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of a table's rows, and texts, which are filled up to the longest beside them."""
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (2,))
    monkeypatch.setattr("quickstudy.stressing.WAYS", (2,))
    small = {"train.steps": 1, "train.validate-every": 0}
    run = library.train(recipe, overrides=small, runs=tmp_path, data_root=data_root, device="cpu", ranks=1)
    library.evaluate(run, episodes=3, robustness=True, report=False, data_root=data_root, device="cpu", ranks=1)
    found = robustness_of(open_run(run.path))
    assert found is not None
    names = {one.name for one in found.figures}
    assert {"unchanged tasks", "worst class of each task", "20 % wrong labels, 5 shots", "2-shot", "2-way"} <= names
    assert "these examples are no pictures" in found.not_asked["queries turned by 90°"]
    for one in filter(None, refused.split(", ")):
        assert "do not number their classes" in found.not_asked[one]
    assert refused or "unknown classes, by probability" in names


def test_tasks_of_all_classes_have_no_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (1,))
    monkeypatch.setattr("quickstudy.stressing.WAYS", (2,))
    rng = np.random.default_rng(0)
    store = ArrayStore.from_classes({one: rng.integers(0, 256, (30, 8, 8)).astype(np.uint8) for one in "ab"})

    def tasks(**sizes: Any) -> TaskSource:
        asked: dict[str, Any] = {"way": 2, "shot": 1, "query": 3, "seed": 0, **sizes}
        return ClassTasks(store, range(2), data="made", split="test", **asked)

    learner = ProtoNet(nn.Flatten())
    found = stress(Stressed(learner, learner, tasks, 4), learner="protonet", recipe_hash="r", checkpoint="last")
    assert "every task has all the classes that there are" in found.not_asked["unknown rejection"]
    assert all(np.isfinite([one.value, one.low, one.high]).all() for one in found.figures)


def test_a_test_of_more_episodes_is_not_shadowed(glyphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test says of itself is of all its episodes, and what is asked beside is paired with the first of them."""
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (1,))
    monkeypatch.setattr("quickstudy.stressing.WAYS", ())
    monkeypatch.setattr("quickstudy.testing.EPISODES", 5)
    folder = open_run(glyphs)
    few = library.evaluate(glyphs, episodes=5, report=False, device="cpu", ranks=1)
    plain = library.evaluate(glyphs, episodes=30, report=False, device="cpu", ranks=1)
    alone = robustness_of(folder, plain)
    result = library.evaluate(glyphs, episodes=30, robustness=True, report=False, device="cpu", ranks=1)
    found = robustness_of(folder, result)
    assert alone is not None and found is not None and found.is_whole and found.episodes == 30
    assert found.figures[: len(alone.figures)] == alone.figures
    assert "(5 episodes)" in str(found).splitlines()[6] and "episodes)" not in str(found).splitlines()[1]
    turned, one = found.by_name("queries turned by 90°"), found.by_name("1-shot")
    assert turned is not None and turned.episodes == 5 and turned.difference is not None
    assert turned.difference[0] == pytest.approx(turned.value - few.mean) and few.mean != plain.mean
    assert one is not None and one.episodes == 30 and one.value == pytest.approx(plain.mean)


def test_figures_of_another_number_of_episodes_beside_a_result(glyphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test says of itself is never of fewer, whichever was last; the rest comes from where there is some."""
    monkeypatch.setattr("quickstudy.stressing.SHOTS", ())
    monkeypatch.setattr("quickstudy.stressing.WAYS", ())
    folder = open_run(glyphs)
    library.evaluate(glyphs, episodes=4, robustness=True, report=False, device="cpu", ranks=1)
    plain = library.evaluate(glyphs, episodes=30, report=False, device="cpu", ranks=1)
    both = robustness_of(folder, plain)
    assert both is not None and both.is_whole and both.episodes == 30
    assert both.figures[0].value == pytest.approx(plain.mean) and "queries turned by 90°" in str(both)
    assert {one.episodes for one in both.figures} == {4, 30}
    whole = library.evaluate(glyphs, episodes=30, robustness=True, report=False, device="cpu", ranks=1)
    library.evaluate(glyphs, episodes=4, robustness=True, report=False, device="cpu", ranks=1)
    found = robustness_of(folder, whole)
    assert found is not None and {one.episodes for one in found.figures} == {30}
    last = robustness_of(folder)
    assert last is not None and last.episodes == 4


def test_the_same_figures_from_two_processes(glyphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (1,))
    monkeypatch.setattr("quickstudy.stressing.WAYS", (2,))
    found = []
    for ranks in (1, 2):
        library.evaluate(glyphs, episodes=40, robustness=True, report=False, device="cpu", ranks=ranks, tasks_at_once=8)
        found.append(robustness_of(open_run(glyphs)))
    assert found[0] is not None and found[1] is not None and found[0].figures == found[1].figures


def test_no_pairs_with_a_test_of_fewer_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.stressing.SHOTS", ())
    monkeypatch.setattr("quickstudy.stressing.WAYS", ())

    def tasks(**sizes: Any) -> TaskSource:
        return Glyphs().tasks("test", **{"way": 3, "shot": 1, "query": 2, "seed": 0, **sizes})

    learner, seen = ProtoNet(nn.Flatten()), Unchanged()
    tested = meta_test(learner, tasks(), episodes=2, observe=seen), seen
    with pytest.raises(
        InputError, match=r"from a test of 2 episodes with 4 of each kind of changed tasks: .* Test as many"
    ):
        stress(Stressed(learner, learner, tasks, 4, tested=tested), learner="l", recipe_hash="r", checkpoint="last")


def test_uneven_queries_that_cannot_be_drawn_say_why() -> None:
    def tasks(**sizes: Any) -> TaskSource:
        return Glyphs().tasks("test", **{"way": 3, "shot": 18, "query": 2, "seed": 0, **sizes})

    learner = ProtoNet(nn.Flatten())
    with pytest.raises(InputError, match=r"all 3 x 1 queries of a task may be of one class, beside its 18 support"):
        _uneven(Stressed(learner, learner, tasks, 4), tasks())


def test_what_is_cut_off_is_passed_over(glyphs: Path) -> None:
    folder = glyphs / "evaluations" / "robustness"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("{")
    said: list[str] = []
    assert robustness_of(open_run(glyphs), tell=said.append) is None and results_of(open_run(glyphs)) == []
    assert len(said) == 1 and said[0].startswith(f"Passed over: Cannot read {folder / 'a.json'} as robustness figures")
    page = report([glyphs], out=glyphs / "page.html", episodes=0)
    assert "Passed over: Cannot read" in page.read_text()


def test_regression_has_none(trained: Path, tmp_path: Path, quickstudy: Command) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    done = quickstudy("evaluate", run, "--robustness")
    assert done.status == 2
    assert "Cannot measure robustness on these tasks: its figures are of tasks that tell classes apart" in done.err
    assert "their target is 'real'. Leave --robustness out." in done.err
    assert not list((run / "evaluations").glob("*.json"))


def test_control_has_none() -> None:
    with pytest.raises(InputError, match=r"a policy earns returns in them\. Leave --robustness out"):
        check_classes(PointNavigation().tasks("test", shot=2, query=2, seed=0))


# --- Lake's runs ------------------------------------------------------------------------------


def omniglot(quickstudy: Command, data_root: Path, runs: Path, *more: str) -> Path:
    where = ("--data-root", data_root, "--runs", runs)
    done = quickstudy("train", "omniglot-protonet-fast", *SMALL, *more, *where)
    assert done.status == 0, done.err
    return Path(done.out.strip())


def test_a_run_of_background_alphabets_on_the_twenty_runs(quickstudy: Command, data_root: Path, tmp_path: Path) -> None:
    run = omniglot(quickstudy, data_root, tmp_path, "--data.split", "alphabets")
    asked = ("evaluate", run, "--data.name", "omniglot-runs", "--data-root", data_root)
    done = quickstudy(*asked)
    assert done.status == 0, done.err
    assert "over 20 episodes" in done.out and "protonet on omniglot-runs, test, 20-way 1-shot" in done.out
    for option, value, said in (
        ("--way", "5", "they were published as 20-way 1-shot tasks with one query of each class"),
        ("--episodes", "21", "Cannot meta-test on the episodes 0 to 20: there are only 20 of these tasks"),
    ):
        done = quickstudy(*asked, option, value)
        assert done.status == 2 and said in done.err


def test_a_run_of_other_alphabets_is_refused(quickstudy: Command, data_root: Path, tmp_path: Path) -> None:
    """Vinyals' training list has characters of the evaluation alphabets."""
    run = omniglot(quickstudy, data_root, tmp_path)
    done = quickstudy("evaluate", run, "--data.name", "omniglot-runs", "--data-root", data_root)
    assert done.status == 2 and "it was trained on them (split.json)" in done.err
    assert "Atlantean/character" in done.err
