"""The page over runs: what it measures is what it says, and it needs nothing else."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy import api
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError, StorageError
from quickstudy.evaluate import meta_test
from quickstudy.learners import MAMLPlusPlus, MetaCurvature, MetaSGD
from quickstudy.learners.metacurvature import ModeMatrices
from quickstudy.nets import MLP
from quickstudy.reports import report
from quickstudy.reports.classes import ClassAnswers, classes_section
from quickstudy.reports.hardest import worst_tasks
from quickstudy.reports.measuring import ask, by_shots, by_steps
from quickstudy.reports.rates import rates_section
from quickstudy.runs import open_run
from tests.cli.conftest import Command
from tests.evaluate.fakes import a_result

SHORT = {"train.steps": 6, "train.tasks-per-step": 2, "train.validate-every": 3, "train.validate-episodes": 4}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = {**SHORT, "learner.inner-steps": 2, "episodes.test.query": 10}
    return api.train("sinusoid-maml-fast", overrides=overrides, runs=tmp_path_factory.mktemp("runs"), device="cpu").path


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = {**SHORT, "net.filters": 4, "episodes.test.query": 3}
    return api.train(
        "glyphs-protonet-fast", overrides=overrides, runs=tmp_path_factory.mktemp("runs"), device="cpu"
    ).path


def words(page: Path) -> str:
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "http:" not in html and "https:" not in html
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"data:[^\" ]+", "", html)))


def test_a_page_of_one_run(sines: Path) -> None:
    page = report([sines], episodes=8)
    assert page == sines / "full-report.html"
    html, said = page.read_text(encoding="utf-8"), words(page)
    for heading in ("Training", "Before and after each inner step", "More examples to learn from", "The hardest tasks"):
        assert heading in said
    assert "8 validation tasks of sinusoid after each number of inner steps" in said
    for drawn in (
        "Training curve, gradient norm against step",
        "Training curve, validation error against step",
        "Curve, support loss against steps. maml: from",
        "Curve, mse against shots",
        "points learned from, the truth and the answers",
    ):
        assert drawn in html, drawn
    assert "No result is saved yet" in said


def test_losses_along_inner_steps_are_those_of_the_learner(sines: Path) -> None:
    asked = ask("maml", open_run(sines), "validation", None, CPU)
    taken = by_steps(asked, 20)
    assert taken is not None
    assert (taken.steps, taken.trained, taken.metric) == ([0, 1, 2, 3, 4, 5], 2, "mse")
    support = np.array([row.mean() for row in taken.support])
    assert (np.diff(support) < 0).all(), "each step lowers the loss that it descends"
    assert taken.figures[2] == pytest.approx(meta_test(asked.learner, asked.source, episodes=20).per_episode)
    names = [curve.quantity for curve in taken.curves("maml")]
    assert names == ["support loss", "query loss"], "of squared errors the loss is the figure"


def test_more_shots_are_the_same_tasks_with_more_examples(sines: Path) -> None:
    asked = ask("maml", open_run(sines), "validation", None, CPU)
    results = by_shots(asked, 6)
    assert [result.shot for result in results] == [1, 2, 3, 5, 10, 20]
    five = next(result for result in results if result.shot == 5)
    assert five.per_episode == meta_test(asked.learner, asked.source, episodes=6).per_episode


def test_a_page_of_several_runs(sines: Path, glyphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    api.evaluate(glyphs, episodes=4, report=False)
    page = report([glyphs, sines], episodes=4)
    assert page == Path("report.html")
    said = words(page)
    assert "A protonet: glyphs-protonet-fast-s0-001." in said
    assert "Their recipes" not in said and "What the recipes say differently." in said
    assert "Calibration and abstention, 4 validation tasks of glyphs and validation tasks of sinusoid" in said
    assert "What is taken for what: A protonet" in said
    assert "The hardest task of A protonet, number" in said
    assert "The hardest tasks: B maml" in said


def test_the_pages_of_a_test_and_of_a_report_stand_side_by_side(
    quickstudy: Command, sines: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(sines, tmp_path / "run"))
    done = quickstudy("evaluate", run, "--episodes", "3")
    assert f"the page is {run / 'report.html'}" in done.err
    tested = (run / "report.html").read_bytes()
    assert quickstudy("report", run, "--episodes", "0").out == f"{run / 'full-report.html'}\n"
    assert (run / "report.html").read_bytes() == tested


def test_a_page_of_a_run_that_acts(tmp_path: Path) -> None:
    """Returns after each step of adaptation with intervals, and rollouts."""
    small = {"train.steps": 1, "train.tasks-per-step": 2, "episodes.train.shot": 20, "episodes.test.shot": 20}
    small |= {"train.validate-every": 0, "episodes.train.query": 2, "episodes.test.query": 2}
    run = api.train("point-navigation-maml-fast", overrides=small, runs=tmp_path, device="cpu").path
    page = report([run], episodes=3)
    said = words(page)
    assert "Return after each step of adaptation: maml-rl Mean return over the tasks, with 95 % intervals" in said
    assert re.search(r"0 steps 1 step maml-rl −\d+\.\d+ ± \d+\.\d+ −\d+\.\d+ ± \d", said)
    assert "Rollouts: maml-rl" in said and page.read_text().count("data:image/gif") == 3


def test_a_page_that_cannot_be_written(sines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.files.os.access", lambda *given: False)
    with pytest.raises(StorageError, match=r"Cannot write full-report\.html in .*: nothing .* place .* with --out"):
        report([sines])


def test_a_page_without_questions_needs_no_data(glyphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.reports.page.ask", None)
    said = words(report([glyphs], out=tmp_path / "page.html", episodes=0))
    assert "gradient norm" in (tmp_path / "page.html").read_text() and "Calibration" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "There is no run none."),
        (["RUN", "--episodes", "1"], "A report asks 2 tasks or more, or 0 to ask none, received 1."),
        (["RUN", "RUN"], "Cannot compare a run with itself"),
        (["RUN", "--role", "train"], "--role"),
        ([], "Missing argument"),
    ],
)
def test_bad_input(quickstudy: Command, sines: Path, arguments: list[str], said: str) -> None:
    done = quickstudy("report", *[str(sines) if part == "RUN" else part for part in arguments])
    assert done.status == 2
    assert said in done.err


def test_the_command_prints_the_page(quickstudy: Command, sines: Path, tmp_path: Path) -> None:
    done = quickstudy("report", sines, "--episodes", 0, "--out", tmp_path / "x.html")
    assert (done.status, done.out) == (0, f"{tmp_path / 'x.html'}\n")


def test_nothing_to_report_on() -> None:
    with pytest.raises(InputError, match="Cannot write a report of no runs"):
        report([])


def test_data_that_is_gone_is_a_note(glyphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from quickstudy.errors import DataError

    def gone(*given: object) -> None:
        raise DataError("The folder of glyphs is gone.")

    monkeypatch.setattr("quickstudy.reports.page.ask", gone)
    said = words(report([glyphs], out=tmp_path / "page.html"))
    assert "protonet was not asked anything, as its data cannot be read. The folder of glyphs is gone." in said


# --- pieces --------------------------------------------------------------------------------------


def an_episode(classes: list[list[int]], y: list[list[int]]) -> Episode:
    way = torch.tensor([len(one) for one in classes])
    labels = torch.tensor(y)
    support = Examples(
        torch.zeros(len(y), len(classes[0]), 1, 4, 4), torch.arange(len(classes[0])).expand(len(y), -1), Classes(way)
    )
    query = Examples(torch.ones(*labels.shape, 1, 4, 4), labels, Classes(way))
    return Episode(support, query, classes=torch.tensor(classes))


def logits(said: list[list[int]], way: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(said), way).float()


def test_confusion_counts_the_classes_of_the_data(glyphs: Path) -> None:
    """Two tasks with the classes 7, 3 and 3, 9: labels mean other classes in each."""
    found = ClassAnswers(ask("x", open_run(glyphs), "validation", None, CPU).source)
    found.names = {3: "three", 7: "seven", 9: "nine"}
    found(logits([[0, 0, 1], [1, 1, 0]], 2), an_episode([[7, 3], [3, 9]], [[0, 1, 1], [0, 1, 0]]))
    assert dict(found.asked) == {7: 1, 3: 4, 9: 1}
    assert dict(found.taken) == {(7, 7): 1, (3, 7): 1, (3, 3): 2, (3, 9): 1, (9, 9): 1}
    assert found.hardest() == [3, 7, 9]
    assert found.mistaken(3) == [(7, 1), (9, 1)]
    section = classes_section("x", found)
    assert section.rows == [("three", "50.0", "4", "seven (1); nine (1)")]
    assert len(section.drawings) == 1 and len(section.pictures) == 1
    unusable = torch.full((1, 1, 2), torch.nan)
    found(unusable, an_episode([[7, 3]], [[0]]))
    assert found.taken[7, -1] == 1 and found.name(-1) == "no answer"


def test_groups_are_no_classes(glyphs: Path) -> None:
    """Tasks made of hospitals number these, one a task, and not what is answered."""
    found = ClassAnswers(ask("x", open_run(glyphs), "validation", None, CPU).source)
    episode = an_episode([[7, 3]], [[0, 1]])
    found(logits([[0, 1]], 2), replace(episode, classes=torch.tensor([[5]])))
    assert not found.asked


@pytest.mark.parametrize(("metric", "worst"), [("accuracy", [3, 1]), ("mse", [2, 0])])
def test_the_worst_tasks(metric: str, worst: list[int]) -> None:
    values = [0.5, 0.2, 0.9, 0.1]
    assert worst_tasks(a_result(values, metric=metric), 2) == worst


def test_rates_that_were_learned() -> None:
    torch.manual_seed(0)
    plus = MAMLPlusPlus(MLP(4, norm="none"), outputs=2, inner_steps=3, inner_lr=0.25)
    section = rates_section("x", plus.learned_rates())
    assert section.head == ("weight", "step 1", "step 2", "step 3")
    assert section.rows[0][1:] == ("0.25", "0.25", "0.25")
    sgd = MetaSGD(MLP(4, norm="none"), outputs=2, random_rates=True)
    rates = sgd.learned_rates()
    assert {name: rate.shape[1] for name, rate in rates.items()} == {
        n: p.numel() for n, p in sgd.model.named_parameters()
    }
    rows: Any = rates_section("x", rates).rows
    assert all(0.005 <= float(row[1]) <= float(row[3]) <= float(row[5]) <= 0.1 and row[6] == "0" for row in rows)


@pytest.mark.parametrize(("shape", "any_way"), [((3, 4), False), ((3, 2, 3, 3), False), ((3, 4), True), ((5,), False)])
def test_rates_of_learned_curvature_are_what_an_entry_is_multiplied_by(shape: tuple[int, ...], any_way: bool) -> None:
    torch.manual_seed(0)
    matrices = ModeMatrices(torch.Size(shape), any_way=any_way)
    for mode in matrices.parameters():
        torch.nn.init.normal_(mode)
    entries = torch.eye(torch.Size(shape).numel()).reshape(-1, *shape)
    moved = matrices(entries).detach().flatten(1).diagonal()
    found = matrices.diagonal()
    assert torch.allclose(found.repeat(len(moved) // len(found)), moved, atol=1e-6)


def test_rates_of_a_learner_with_curvature() -> None:
    learner = MetaCurvature(MLP(4, (6,), norm="none"), outputs=2, inner_lr=0.25)
    rates = learner.learned_rates()
    assert rates.keys() == dict(learner.model.shapes).keys()
    assert all(rate.ndim == 2 and (rate == 0.25).all() for rate in rates.values())
    rows: Any = rates_section("x", rates).rows
    assert rows[0][1] == "0.25"
