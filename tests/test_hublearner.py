"""Learners on the Hugging Face hub: what goes up, what comes down, and what is refused. No network is asked."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy import FewShotClassifier, MetaLearner, SavedLearner
from quickstudy.errors import CheckpointError, InputError, UnknownName

hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import hub_mixin  # noqa: E402

TASKS = [(np.random.default_rng(seed).normal(size=(12, 3)), np.arange(12) % 2) for seed in range(3)]


@pytest.fixture(scope="module")
def saved() -> SavedLearner:
    return MetaLearner(steps=2, tasks_per_step=2, episodes=2).meta_fit(TASKS).saved_


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub in a folder."""
    shelf = tmp_path / "hub"

    class Api:
        def __init__(self, token: Any = None) -> None:
            del token

        def create_repo(self, repo_id: str, **options: Any) -> Any:
            (shelf / repo_id).mkdir(parents=True, exist_ok=True)
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id: str, folder_path: Path, **options: Any) -> str:
            shutil.copytree(folder_path, shelf / repo_id, dirs_exist_ok=True)
            return f"commit of {repo_id}"

    def download(repo_id: str, filename: str, **options: Any) -> str:
        if not (shelf / repo_id).is_dir():
            raise hub.errors.LocalEntryNotFoundError("no network")
        return str(shelf / repo_id / filename)

    def snapshot(repo_id: str, allow_patterns: list[str], **options: Any) -> str:
        copy = tmp_path / "cache" / repo_id
        copy.mkdir(parents=True)
        for name in allow_patterns:
            if (shelf / repo_id / name).exists():
                shutil.copy(shelf / repo_id / name, copy)
        return str(copy)

    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    monkeypatch.setattr(hub_mixin, "hf_hub_download", download)
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    return shelf


def test_up_and_down(saved: SavedLearner, shelf: Path) -> None:
    assert saved.push_to_hub("user/name", private=True) == "commit of user/name"
    names = {path.name for path in (shelf / "user" / "name").iterdir()}
    assert names == {"learner.json", "weights.safetensors", "README.md", "config.json"}
    assert (shelf / "user/name/README.md").read_text().startswith("---\nlibrary_name: quickstudy")
    (shelf / "user/name/more.pkl").write_bytes(b"cos\nsystem\n")  # is not asked for
    again = SavedLearner.from_pretrained("user/name")
    assert again.digest == saved.digest and again.recipe == saved.recipe


def test_an_estimator_takes_it_by_its_name(saved: SavedLearner, shelf: Path, tmp_path: Path) -> None:
    saved.push_to_hub("user/name")
    X, y = TASKS[0]
    model = FewShotClassifier(learner="user/name").fit(X, y)
    assert "user/name (as asked for, from the Hugging Face hub)" in repr(model)
    assert (model.predict_proba(X) == FewShotClassifier(learner=saved).fit(X, y).predict_proba(X)).all()
    model.save(tmp_path / "task")  # with the learner


def test_a_folder(saved: SavedLearner, tmp_path: Path) -> None:
    hub_class = __import__("quickstudy.hublearner", fromlist=["hub_class"]).hub_class()
    assert issubclass(hub_class, hub.ModelHubMixin)
    hub_class(saved).save_pretrained(tmp_path / "learner")
    assert SavedLearner.from_pretrained(tmp_path / "learner").digest == saved.digest
    assert SavedLearner.load(tmp_path / "learner").digest == saved.digest


def test_a_pickle_or_a_changed_file_is_refused(saved: SavedLearner, tmp_path: Path) -> None:
    saved.save(tmp_path / "learner")
    (tmp_path / "learner" / "config.json").write_text("{}")
    torch.save({}, tmp_path / "learner" / "pytorch_model.bin")
    for load in (SavedLearner.from_pretrained, SavedLearner.load):
        with pytest.raises(InputError, match=r"it holds pytorch_model\.bin, which is or may be a pickle"):
            load(tmp_path / "learner")
    (tmp_path / "learner" / "pytorch_model.bin").unlink()
    about = json.loads((tmp_path / "learner" / "learner.json").read_text())
    (tmp_path / "learner" / "learner.json").write_text(json.dumps(about | {"licence": "mine"}))
    with pytest.raises(CheckpointError, match=r"learner\.json was changed"):
        SavedLearner.from_pretrained(tmp_path / "learner")


def test_what_cannot_be_had_is_one_sentence(saved: SavedLearner, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match="Cannot load the learner 'nobody/nothing': there is no folder of that name, and"
    ):
        FewShotClassifier(learner="nobody/nothing").fit(*TASKS[0])
    Path("runs").mkdir()
    with pytest.raises(
        UnknownName, match="no learner called 'runs/nothing'"
    ):  # a folder that is here: no name on the hub
        FewShotClassifier(learner="runs/nothing").fit(*TASKS[0])
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"needs the package huggingface_hub, .* 'quickstudy\[text\]'"):
        saved.push_to_hub("user/name")
