"""Pretrained encoders under a plain learner: small ones, made here. Nothing is downloaded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy import FewShotClassifier, FewShotRegressor, load_task
from quickstudy.errors import CheckpointError, InputError
from quickstudy.estimators import encoders

transformers = pytest.importorskip("transformers")
DRAW = np.random.default_rng(0)
COLOURS = np.concatenate(
    [
        np.clip(DRAW.normal(level, 30, (4, 24, 30, 3)), 0, 255).astype(np.uint8)
        for level in ((200, 40, 40), (40, 40, 200))
    ]
)
LABELS = ["red"] * 4 + ["blue"] * 4
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "size": {"height": 32, "width": 32},
}


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.ViTConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
            patch_size=8,
        )
        transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


@pytest.fixture(autouse=True)
def nothing_in_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(encoders.VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))


def test_a_vision_encoder_by_name(vit: Path, tmp_path: Path) -> None:
    model = FewShotClassifier(learner=f"hf-vision:{vit}").fit(COLOURS, LABELS)
    assert model.reader_.settings == {"size": 32, "channels": 3, "white": 255.0}
    assert model.score(COLOURS, LABELS) == 1
    body = transformers.ViTModel.from_pretrained(vit, add_pooling_layer=False).eval()
    read: Any = model.reader_.read(COLOURS)
    mean, deviation = (torch.tensor(PROCESSOR[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
    with torch.no_grad():
        known = body(pixel_values=(read / 255 - mean) / deviation).last_hidden_state[:, 0]
    assert np.allclose(model.transform(COLOURS), torch.nn.functional.normalize(known, dim=1), atol=1e-5)
    model.save(tmp_path / "task")
    assert (load_task(tmp_path / "task").predict(COLOURS) == model.predict(COLOURS)).all()


def test_numbers_by_a_vision_encoder(vit: Path) -> None:
    model = FewShotRegressor(learner=f"hf-vision:{vit}").fit(COLOURS, COLOURS[..., 0].mean((1, 2)))
    assert model.score(COLOURS, COLOURS[..., 0].mean((1, 2))) > 0.9


def test_other_weights_in_the_same_place_are_noticed(vit: Path, tmp_path: Path) -> None:
    place = tmp_path / "vit"
    model = transformers.ViTModel.from_pretrained(vit, add_pooling_layer=False)
    model.save_pretrained(place)
    FewShotClassifier(learner=f"hf-vision:{place}").fit(COLOURS, LABELS).save(tmp_path / "task")
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    model.save_pretrained(place)
    with pytest.raises(CheckpointError, match="whose weights were others"):
        load_task(tmp_path / "task")


def test_auto_takes_one_that_is_in_reach_for_pictures_but_not_for_drawings(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert encoders.vision_in_reach() is None
    assert FewShotClassifier().fit(COLOURS, LABELS).chosen_.name == "pictures"
    monkeypatch.setenv(encoders.VARIABLE, str(vit))
    model = FewShotClassifier().fit(COLOURS, LABELS)
    assert model.chosen_.name == f"hf-vision:{vit}" and "this vision encoder is in reach" in repr(model)
    drawings = np.zeros((4, 20, 20), np.uint8)
    drawings[:2, 5:15, 9:11], drawings[2:, 9:11, 5:15] = 255, 255
    assert FewShotClassifier().fit(drawings, [0, 0, 1, 1]).chosen_.name == "drawings"


def test_one_in_the_cache_is_in_reach(vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[tuple[str, str], str] = {
        ("facebook/dinov2-base", name): str(vit / name) for name in ("config.json", "preprocessor_config.json")
    }

    def look_up(name: str, file: str) -> str | None:
        return found.get((name, file))

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", look_up)
    assert encoders.vision_in_reach() is None, "without its weights"
    found["facebook/dinov2-base", "model.safetensors"] = str(vit / "model.safetensors")
    model = FewShotClassifier().fit(COLOURS, LABELS)
    assert model.chosen_.name == "hf-vision:facebook/dinov2-base", "by its name, which other machines know"
    model.save(tmp_path / "task")
    assert str(vit) not in (tmp_path / "task" / "task.json").read_text()


def test_a_text_encoder_by_name() -> None:
    X = ["where is my card", "my card is lost", "send money abroad", "transfer money to a friend"]
    model = FewShotClassifier(learner="hf-text:minilm").fit(X, ["card", "card", "money", "money"])
    assert model.predict(["the card got lost", "wire money"]).tolist() == ["card", "money"]
    assert "hf-text:minilm (as asked for)" in repr(model)


def test_what_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Cannot find the model '\./nowhere': there is no such folder"):
        FewShotClassifier(learner="hf-vision:./nowhere").fit(COLOURS, LABELS)
    monkeypatch.setenv(encoders.VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(InputError, match="QUICKSTUDY_VISION_ENCODER names no model: Cannot find the model"):
        FewShotClassifier().fit(COLOURS, LABELS)
