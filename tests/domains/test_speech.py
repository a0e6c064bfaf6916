"""Baselines of speech, the study, and its part of the report."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from quickstudy.data.sounds import Sounds
from quickstudy.domains.images.grid import LEARNED, RIGHT, WRONG
from quickstudy.domains.speech.dtw import TimeWarping, warped
from quickstudy.domains.speech.mfcc import Mfcc, spoken
from quickstudy.domains.speech.pictures import spectrograms, spectrograms_of
from quickstudy.domains.study import Found, study
from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.evaluate import meta_test
from quickstudy.learners.knn import KNN
from quickstudy.learners.logistic import Logistic
from quickstudy.recipes import load_recipe
from tests.data.soundfiles import folder_of_words, tone

WORDS = {f"word {n}": 200.0 * 1.35**n for n in range(8)}


def shortest(cost: np.ndarray) -> float:
    """The recursion of Sakoe and Chiba, cell by cell."""
    best = np.full(cost.shape, np.inf)
    for i, j in np.ndindex(*cost.shape):
        before = [2 * cost[i, j]] if i == j == 0 else []
        if i and j:
            before.append(best[i - 1, j - 1] + 2 * cost[i, j])
        if i:
            before.append(best[i - 1, j] + cost[i, j])
        if j:
            before.append(best[i, j - 1] + cost[i, j])
        best[i, j] = min(before)
    return float(best[-1, -1]) / sum(cost.shape)


@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=6), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_warping_against_the_recursion(lengths: list[tuple[int, int]], seed: int) -> None:
    cost = torch.rand(len(lengths), 7, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows, columns = torch.tensor(lengths).T
    found = warped(cost, rows, columns)
    expected = [shortest(cost[p, :i, :j].numpy()) for p, (i, j) in enumerate(lengths)]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    narrow = warped(cost, rows, columns, 0.0)
    assert torch.isfinite(narrow).all() and bool((narrow >= found - 1e-12).all())


def examples(waves: list[np.ndarray], labels: list[int] | None, way: int) -> Examples:
    x = torch.tensor(np.stack(waves), dtype=torch.float32)[None]
    return Examples(x, None if labels is None else torch.tensor([labels]), Classes(torch.tensor([way])))


def glide(first: float, last: float, seconds: float) -> np.ndarray:
    """A tone that rises or falls, in the middle of a second."""
    n = round(seconds * 8000)
    hertz = np.linspace(first, last, n)
    wave = np.sin(2 * np.pi * np.cumsum(hertz) / 8000) + 0.5 * np.sin(6 * np.pi * np.cumsum(hertz) / 8000)
    out = np.zeros(8000)
    out[(8000 - n) // 2 :][:n] = wave
    return out


def test_warping_forgives_speed() -> None:
    """Up or down, whatever the speed: the mean spectrum is the same."""
    learner = TimeWarping((8000,))
    support = examples([glide(300, 900, 0.5), glide(900, 300, 0.5)], [0, 1], 2)
    query = examples([glide(300, 900, 0.35), glide(900, 300, 0.65), glide(310, 880, 0.6)], None, 2)
    said = learner.predict(learner.adapt(support), query)
    assert said.argmax(2).tolist() == [[0, 1, 0]] and torch.isfinite(said).all()


def test_warping_more_support_later_and_padding() -> None:
    learner = TimeWarping((8000,))
    waves, labels = [glide(300, 900, 0.5), glide(900, 300, 0.5), glide(500, 600, 0.4)], [0, 1, 0]
    together = learner.adapt(examples(waves, labels, 2))
    parts = learner.adapt(examples(waves[:2], labels[:2], 2))
    parts = learner.adapt(examples(waves[2:], labels[2:], 2), state=parts)
    query = examples([glide(480, 620, 0.45)], None, 2)
    expected = learner.predict(together, query)
    assert torch.equal(learner.predict(parts, query), expected)
    support = examples([*waves, np.full(8000, np.nan)], [*labels, 0], 2)
    padded = Examples(support.x, support.y, support.target, torch.tensor([[True, True, True, False]]))
    assert torch.allclose(learner.predict(learner.adapt(padded), query), expected)


def test_where_the_word_is() -> None:
    log = torch.full((1, 4, 10), -20.0)
    log[:, :, 3:7] = 0.0
    first, last = spoken(log)
    assert (int(first), int(last)) == (3, 6)


@pytest.mark.parametrize("readout", ["frames", "moments"])
def test_mfcc_leaves_out_loudness_and_silence_around(readout: Any) -> None:
    net = Mfcc((8000,), readout=readout)
    word = glide(300, 900, 0.4)
    rows = torch.tensor(np.stack([word, 0.1 * word, np.roll(word, 1600), glide(900, 300, 0.4)]), dtype=torch.float64)
    found = net(rows)
    assert found.shape == (4, net.out_features)
    assert torch.allclose(found[0], found[1], atol=1e-6) and torch.allclose(found[0], found[2], atol=1e-6)
    assert float((found[0] - found[3]).norm()) > 0.2 * float(found[0].norm()) or readout == "moments"
    assert torch.isfinite(net(torch.zeros(2, 8000))).all()


def test_baselines_tell_tones_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    folder_of_words(tmp_path / "w", WORDS, {"anna": 16000, "ben": 8000, "cy": 44100})
    source = Sounds(tmp_path / "w", split="test", speakers="name").tasks("test", way=4, shot=1, query=2, seed=0)
    shape = source.shape.example
    for learner in (KNN(Mfcc(shape)), Logistic(Mfcc(shape)), TimeWarping(shape)):
        assert meta_test(learner, source, episodes=5).mean > 0.8
    found = Found(KNN(Mfcc(shape)), {"tones, 4-way 1-shot": source, "tones, 4-way 5-shot": source}, {})
    (section,) = spectrograms(found)
    assert len(section.pictures) == 4 and section.pictures[0][0].startswith(b"\x89PNG")
    assert section.pictures[0][1].startswith("word ") and "recordings of other speakers" in section.text[0]
    several = Sounds(tmp_path / "w", split="test").tasks("test", way=(2, 3), shot=(1, 2), query=(1, 2), seed=0)
    for shown in (spectrograms_of("tones", several, KNN(Mfcc(shape))), spectrograms_of("tones", source, found.learner)):
        pixels = np.asarray(Image.open(io.BytesIO(shown.pictures[0][0])))
        assert tuple(pixels[0, 0]) == LEARNED and tuple(pixels[0, -5]) in (RIGHT, WRONG)


def test_the_study(data_root: Path) -> None:
    found = study("speech")
    assert [rival.name for rival in found.rivals] == [
        "MFCC + k-NN",
        "MFCC + time warping",
        "MFCC + logistic regression",
    ]
    assert found.plain is not None
    recipe, plain = load_recipe(found.recipe), load_recipe(found.plain)
    assert recipe.net == plain.net and recipe.data == plain.data, "the same network, the same data"
    assert recipe.train.steps * recipe.train.tasks_per_step <= plain.train.steps * 64


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TimeWarping((1, 28, 28)), r"MFCC are made of waveforms \(samples,\), but .* \(1, 28, 28\)"),
        (lambda: Mfcc({"x": (3,)}), r"MFCC are made of waveforms"),
        (lambda: TimeWarping((8000,), band=2.0), r"Time warping needs a band from 0 to 1, received 2\.0"),
    ],
)
def test_what_cannot_be_built(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_tones_are_audible() -> None:
    assert np.abs(tone(440, 0.1, 8000)).max() > 0.9
