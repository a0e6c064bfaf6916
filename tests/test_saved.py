"""A trained learner in a folder of its own."""

import shutil
from pathlib import Path

import pytest
import torch

import quickstudy
from quickstudy import SavedLearner
from quickstudy.episode import Classes, Examples
from quickstudy.errors import CheckpointError, InputError
from quickstudy.learners.learner import AbstractLearner
from quickstudy.shipped import shipped, shipped_names

SMALL = {"train.steps": 2, "train.validate-every": 0, "evaluate.episodes": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    found = quickstudy.train("tables-tabular-in-context-fast", runs=runs, overrides=SMALL)
    quickstudy.evaluate(found, report=False)
    return found.folder.path


@pytest.fixture
def folder(run: Path, tmp_path: Path) -> Path:
    SavedLearner.of_run(run, licence="MIT").save(tmp_path / "learner")
    return tmp_path / "learner"


def support() -> Examples:
    x = torch.arange(24.0).view(1, 6, 4).sin()
    return Examples(x, torch.tensor([[0, 1, 2, 0, 1, 2]]), Classes(torch.tensor([3])))


def answers(learner: AbstractLearner) -> torch.Tensor:
    with torch.no_grad():
        return learner.predict(learner.adapt(support()), support().unlabelled())


def test_it_says_the_same_where_the_run_is_not(run: Path, folder: Path, tmp_path: Path) -> None:
    before = answers(quickstudy.load(run))
    moved = tmp_path / "elsewhere" / "it"
    shutil.copytree(folder, moved)
    assert (answers(quickstudy.load(moved)) == before).all()
    saved = SavedLearner.load(moved)
    assert not saved.learner.training
    assert saved.results[0].episodes == 4 and saved.licence == "MIT"
    assert saved.digest == SavedLearner.of_run(run).digest


def test_the_card_says_what_people_must_know(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: quickstudy\n") and "license: mit" in card
    assert "over 4 episodes" in card, "what was measured"
    assert "inductive" in card
    assert 'FewShotClassifier(learner="this/folder")' in card
    assert "steps = 2\n" in card, "the recipe"


def test_what_was_cut_off_changed_or_lost_is_refused(folder: Path) -> None:
    weights, about = (folder / "weights.safetensors").read_bytes(), (folder / "learner.json").read_bytes()
    (folder / "weights.safetensors").write_bytes(weights[:-8])
    with pytest.raises(CheckpointError, match=r"weights.safetensors is cut off or was changed"):
        quickstudy.load(folder)
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "learner.json").write_bytes(about.replace(b'"MIT"', b'"GPL"'))
    with pytest.raises(CheckpointError, match=r"learner.json was changed"):
        quickstudy.load(folder)
    (folder / "learner.json").write_bytes(about[:50])
    with pytest.raises(CheckpointError, match="cut off or no JSON"):
        quickstudy.load(folder)
    (folder / "learner.json").write_bytes(about)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights.safetensors is missing"):
        quickstudy.load(folder)


def test_a_pickle_in_its_place_is_refused(folder: Path, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, folder / "weights.safetensors")
    with pytest.raises(CheckpointError, match="was changed"):
        quickstudy.load(folder)


def test_other_folders_are_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="something else is there"):
        SavedLearner.of_run(run).save(tmp_path)
    with pytest.raises(InputError, match="There is no saved learner at"):
        SavedLearner.load(tmp_path)


@pytest.mark.parametrize("name", shipped_names())
def test_what_is_shipped_is_small_licensed_and_measured(name: str) -> None:
    saved = shipped(name)
    place = Path(quickstudy.shipped.__file__).parent / name
    assert all(path.stat().st_size <= 1 << 20 for path in place.iterdir())
    assert saved.licence is not None
    assert saved.results and saved.results[0].episodes == 1000
    assert not saved.learner.traits.transductive
    assert (saved.calibration or {}).keys() == (
        {"novelty", "doubt", "familiar"} if "classes" in saved.learner.traits.targets else {"familiar"}
    )
