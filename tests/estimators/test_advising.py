"""What is said before a learner is taken: intervals that hold, pairs that are fair, doubles that are found."""

import csv
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from quickstudy.errors import InputError
from quickstudy.estimators.advice import advise, survey
from quickstudy.estimators.advising import Pool, estimate, measure
from quickstudy.estimators.duplicates import groups_of
from quickstudy.estimators.files import Asked, Found, labelled
from quickstudy.keys import Integers

Floats = NDArray[np.float64]
CLASSES, APART = 3, 1.5


def clouds(draw: np.random.Generator, n: int) -> tuple[Floats, Integers]:
    """Classes whose means lie on a line."""
    y = np.arange(n) % CLASSES
    x = draw.normal(size=(n, 2))
    x[:, 0] += APART * y
    return x, y


def nearest(x: Floats, y: Integers) -> Callable[[Integers, Integers], Floats]:
    def answer(known: Integers, asked: Integers) -> Floats:
        apart = ((x[asked][:, None] - x[known][None]) ** 2).sum(2)
        return np.asarray(y[known][apart.argmin(1)] == y[asked], dtype=np.float64)

    return answer


def fixed(right: NDArray[np.bool_]) -> Callable[[Integers, Integers], Floats]:
    """Answers that do not depend on the lesson."""
    return lambda known, asked: right[asked].astype(np.float64)


def truth(shots: int, draw: np.random.Generator, tasks: int = 1500) -> float:
    """The accuracy over fresh lessons and fresh questions."""
    found = []
    for _ in range(tasks):
        x, y = clouds(draw, shots * CLASSES)
        z, w = clouds(draw, 20 * CLASSES)
        apart = ((z[:, None] - x[None]) ** 2).sum(2)
        found.append((y[apart.argmin(1)] == w).mean())
    return float(np.mean(found))


def test_intervals_hold_the_truth_and_naive_ones_do_not() -> None:
    draw = np.random.default_rng(0)
    held: dict[object, list[bool]] = {}
    naive: dict[object, list[bool]] = {}
    true = {shots: truth(shots, draw) for shots in (1, 2, 5, 8)}
    for seed in range(150):
        x, y = clouds(draw, 30)
        measured = measure(Pool(y, seed=seed), {"nearest": nearest(x, y)}, episodes=20)
        for shots in measured.pool.shots:
            aim = true[8 if shots == "all" else shots]
            got = measured.of("nearest", shots)
            held.setdefault(shots, []).append(got.low <= aim <= got.high)
            all_answers = np.concatenate(measured.answers["nearest"][shots])
            half = 1.96 * all_answers.std() / math.sqrt(len(all_answers))
            naive.setdefault(shots, []).append(abs(all_answers.mean() - aim) <= half)
    for size, times in held.items():
        assert np.mean(times) >= 0.9, size
        assert np.mean(naive[size]) < 0.8, "then this test shows nothing"


def test_a_pool_that_was_always_right_is_not_taken_for_a_promise() -> None:
    whole = estimate([np.ones(4)] * 10, pool=20, lesson=16, shares=True)
    assert whole.mean == 1 and 0.8 < whole.low < 0.95
    assert math.isinf(estimate([np.ones(4)], pool=20, lesson=16).half)


def test_pairs_are_of_the_same_questions_after_the_same_lessons() -> None:
    x, y = clouds(np.random.default_rng(1), 40)
    seen: dict[str, list[tuple[bytes, bytes]]] = {"a": [], "b": []}

    def noting(name: str) -> Callable[[Integers, Integers], Floats]:
        def answer(known: Integers, asked: Integers) -> Floats:
            seen[name].append((known.tobytes(), asked.tobytes()))
            assert not set(known) & set(asked)
            assert set(y[known]) == {0, 1, 2}, "every class is in every lesson"
            return nearest(x, y)(known, asked)

        return answer

    measured = measure(Pool(y), {"a": noting("a"), "b": noting("b")}, episodes=10)
    assert seen["a"] == seen["b"]
    assert measured.ahead("a", "b").mean == measured.ahead("a", "b").half == 0
    assert np.bincount(np.concatenate(measured.asked)).tolist() == [2] * 40, "ten folds: each example twice"
    lessons = list(itertools.islice(Pool(y).episodes(), 3))
    assert set(lessons[0].first(2)) < set(lessons[0].first(5)) < set(lessons[0].known)


def test_the_best_of_many_guesses_is_not_believed() -> None:
    draw = np.random.default_rng(2)
    y = np.arange(40) % 2
    luck = {f"guess {k}": draw.random(40) < 0.5 for k in range(30)}
    measured = measure(Pool(y), {name: fixed(right) for name, right in luck.items()})
    best = measured.of(measured.best(list(luck)))
    chosen = measured.as_chosen(list(luck))
    assert best.mean > 0.6 > chosen.mean + 0.02


def test_time_and_candidates_that_refuse() -> None:
    x, y = clouds(np.random.default_rng(3), 40)

    def refuses(known: Integers, asked: Integers) -> Floats:
        raise InputError("It has room for two classes.")

    ticks = iter(range(1000))
    heard: list[tuple[int, int]] = []
    candidates = {"a": nearest(x, y), "b": refuses}
    measured = measure(
        Pool(y), candidates, seconds=0.5, clock=lambda: next(ticks), listen=lambda *at: heard.append(at), episodes=20
    )
    assert measured.left_early and len(measured.asked) == 5 and heard[-1] == (5, 20), "each was asked for once"
    assert measured.refused == {"b": "It has room for two classes."} and list(measured.answers) == ["a"]
    with pytest.raises(InputError, match="No learner can learn these examples: It has room for two"):
        measure(Pool(y), {"b": refuses})
    with pytest.raises(InputError, match="Each class needs two examples"):
        measure(Pool(np.array([0, 0, 1])), candidates)


def photographs(folder: Path, n: int = 4) -> Path:
    """Soft colour noise, no two alike."""
    draw = np.random.default_rng(4)
    for label, number in itertools.product("ab", range(n)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(draw.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        small.resize((160, 120), Image.Resampling.BICUBIC).save(folder / label / f"{number}.png")
    return folder


def test_pictures_that_are_there_twice(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "p")
    one = Image.open(folder / "a" / "0.png")
    one.resize((80, 60)).save(folder / "a" / "small.jpg", quality=60)
    one.crop((0, 0, 100, 120)).save(folder / "a" / "cropped.png")
    one.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "a" / "mirrored.png")
    Image.open(folder / "b" / "1.png").save(folder / "a" / "taken for a.bmp")
    seen = survey(labelled(folder))
    assert [[Path(name).name for name in group] for group in seen.same] == [
        ["0.png", "small.jpg"],
        ["taken for a.bmp", "1.png"],
    ]
    assert [list(group.values()) for group in seen.at_odds] == [["a", "b"]]
    used = {Path(seen.found.names[row]).name for row in seen.rows.tolist()}
    assert "small.jpg" not in used and "taken for a.bmp" not in used and {"cropped.png", "mirrored.png"} <= used


def test_sounds_that_are_there_twice(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    draw = np.random.default_rng(5)
    for label, number in itertools.product("ab", range(3)):
        (tmp_path / label).mkdir(exist_ok=True)
        wave = np.cumsum(draw.normal(size=8000)) * np.hanning(8000)
        wave = wave - np.convolve(wave, np.ones(200) / 200, "same")
        soundfile.write(tmp_path / label / f"{number}.wav", wave / np.abs(wave).max(), 8000)
    wave, _ = soundfile.read(tmp_path / "a" / "0.wav")
    soundfile.write(tmp_path / "a" / "later and softer.flac", 0.3 * np.pad(wave, (2000, 500)), 8000)
    group = groups_of(found := labelled(tmp_path))
    twice = [found.names[row] for row in range(len(group)) if (group == group[row]).sum() > 1]
    assert [Path(name).name for name in twice] == ["0.wav", "later and softer.flac"]


def test_texts_and_rows_that_are_there_twice() -> None:
    texts = Found("texts", ["Hello, world!", "hello   WORLD", "hello word", "???"], list("aabb"), list("0123"))
    assert len(set(groups_of(texts).tolist())) == 3
    rows = Found("rows", np.array([[1.0, 2], [1, 2], [2, 1]]), list("aab"), list("012"))
    assert groups_of(rows).tolist() == [0, 0, 1]


def test_a_plain_baseline_is_enough_where_it_is(tmp_path: Path) -> None:
    draw = np.random.default_rng(6)
    with (tmp_path / "t.csv").open("w") as file:
        out = csv.writer(file)
        out.writerow(["x", "z", "town", "label"])
        for number in range(60):
            x = draw.normal() + 4 * (number % 2)
            out.writerow([f"{x:.3f}", f"{draw.normal():.3f}", "York" if x > 2 else "Hull", "ab"[number % 2]])
    advice = advise(labelled(tmp_path / "t.csv"), episodes=5)
    assert advice.measured is not None and advice.lead is not None
    assert advice.candidates[advice.take].plain and advice.lead.low <= 0
    assert advice.over_guessing.low > 0.2 and advice.growth is not None
    numbers = advise(labelled(tmp_path / "t.csv", Asked(label="label", target="x")), real=True, episodes=5)
    assert numbers.take != "guess" and numbers.over_guessing.low > 0
    lesson = numbers.measured.of(numbers.take) if numbers.measured else None
    assert lesson is not None and lesson.mean > 0.5


def test_a_trained_learner_is_taken_where_it_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    from quickstudy.estimators import advice as module

    x, y = clouds(np.random.default_rng(7), 60)
    found = Found("rows", x, ["abc"[code] for code in y.tolist()], [str(n) for n in range(60)], ("x", "z"))
    right = {"rows": 0.95, "knn": 0.5, "logistic": 0.4, "guess": 0.3}

    def made(candidates: object, found: object, y: Integers, real: bool) -> object:
        draw = np.random.default_rng(8)
        return {name: fixed(draw.random(60) < share) for name, share in right.items()}, {}

    monkeypatch.setattr(module, "made", made)
    advice = advise(found, episodes=10)
    assert advice.take == "rows" and advice.lead is not None and advice.lead.low > 0 and advice.best_plain == "knn"


def test_too_few() -> None:
    few = Found("rows", np.array([[1.0], [2.0], [3.0]]), ["a", "a", "b"], list("012"), ("x",))
    advice = advise(few)
    assert advice.measured is None and advice.survey.few == ["b"] and "1 class(es) with two different" in advice.why_not
    same = Found("rows", np.arange(12.0)[:, None], [1.0] * 12, list(map(str, range(12))), ("x",))
    assert advise(same, real=True).why_not == "the number is the same everywhere"
    with pytest.raises(InputError, match="given for tables and texts; these are pictures"):
        advise(Found("pictures", [], [1.0, 2.0], ["0", "1"]), real=True)
    enough = Found("rows", np.arange(8.0)[:, None], list("aaaabbbb"), list("01234567"), ("x",))
    with pytest.raises(InputError, match="There is no learner called 'knnn'"):
        advise(enough, learners=["knnn"])


def test_of_much_a_sample_is_tried() -> None:
    from quickstudy.estimators.advice import _sample

    y = [f"{number // 3}" for number in range(300)] + ["0"] * 200
    many = Found("rows", np.arange(500.0)[:, None], y, list(map(str, range(500))), ("x",))
    rows = _sample(survey(many), 0)
    labels = [y[row] for row in rows.tolist()]
    assert len(set(labels)) == 50 and max(labels.count(label) for label in set(labels)) <= 100
