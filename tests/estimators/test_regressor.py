"""FewShotRegressor where it has to find a learner for itself, and where there is nothing to learn."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from quickstudy.errors import CheckpointError, InputError
from quickstudy.estimators import FewShotRegressor, choosing, load_task, savedtask


@pytest.mark.parametrize("learner", ["auto", "rows-real", "ridge"])
def test_of_one_number_alone_that_number_is_said(learner: str) -> None:
    X = np.random.default_rng(0).normal(size=(20, 4))
    model = FewShotRegressor(learner=learner).fit(X, np.full(20, 7.3))
    assert model.predict(10 * X) == pytest.approx(np.full(20, 7.3), rel=1e-6)


def test_numbers_of_drawings(tmp_path: Path) -> None:
    digits = load_digits()
    X = np.stack([np.roll(digits.images[1], shift, axis=0) for shift in range(8)])
    y = X.sum(2).argmax(1) + digits.images[1:9].mean((1, 2))
    model = FewShotRegressor().fit(X, y)
    assert model.chosen_.name == "drawings-ridge" and model.kind_ == "pictures"
    assert "numbers, on the features of the shipped learner of drawings" in repr(model)
    model.save(tmp_path / "task")
    again = load_task(tmp_path / "task")
    assert (again.predict(X) == model.predict(X)).all()
    assert repr(again).startswith("FewShotRegressor(")


def test_a_task_on_features_of_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FewShotRegressor().fit(load_digits().images[:6], np.arange(6.0)).save(tmp_path / "task")
    made = choosing.made

    def other(name: str, target: str, why: str) -> object:
        return made("pictures-ridge", target, why)

    monkeypatch.setattr(savedtask, "made", other)
    with pytest.raises(CheckpointError, match="of another version of quickstudy, whose weights were others"):
        load_task(tmp_path / "task")


def test_numbers_of_recordings_and_of_colour_pictures() -> None:
    time = np.arange(8000) / 8000
    pitches = np.array([200.0, 400.0, 800.0, 1600.0])
    sounds = [np.sin(2 * np.pi * pitch * time) for pitch in pitches]
    model = FewShotRegressor(rate=8000).fit(sounds, np.log2(pitches))
    assert model.chosen_.name == "sounds-ridge"
    assert np.argsort(model.predict(sounds)).tolist() == [0, 1, 2, 3]
    colours = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3)).astype(np.uint8)
    assert FewShotRegressor().fit(colours, np.arange(5.0)).chosen_.name == "pictures-ridge"


@pytest.mark.parametrize("rate", [1, 999, 2_000_000])
def test_a_rate_of_no_sound_is_refused(rate: int) -> None:
    with pytest.raises(InputError, match=r"rate must be samples a second of sound, 1,000 to 1,000,000, received"):
        FewShotRegressor(rate=rate).fit(np.ones((2, 800)), [1.0, 2.0])
