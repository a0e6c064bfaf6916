"""The published recordings as tasks: who is heard where, and that nothing of the test is met before it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.arabic import ArabicCommands
from quickstudy.data.augment import Augmentation
from quickstudy.data.dataset import DataSet
from quickstudy.data.registry import data_sets
from quickstudy.data.soundtasks import SoundTasks
from quickstudy.data.spokendigits import SpokenDigits
from quickstudy.episode import Examples, first_leaf
from quickstudy.errors import DataError, InputError
from quickstudy.keys import Key

SIZES: dict[str, Any] = {"way": 5, "shot": 3, "query": 4, "seed": 0}


@pytest.fixture(scope="module")
def arabic(data_root: Path, cache: Path) -> ArabicCommands:
    return ArabicCommands(data_root)


@pytest.fixture(scope="module")
def who(arabic: ArabicCommands) -> dict[bytes, tuple[str, str]]:
    """A recording's bytes -> its word and speaker."""
    rows = arabic.store.images
    return {row.tobytes(): (r.word, r.speaker) for row, r in zip(rows, arabic.recordings, strict=True)}


def heard(examples: Examples, who: dict[bytes, tuple[str, str]], task: int) -> list[tuple[str, str]]:
    x = first_leaf(examples.x)[task].numpy()
    return [who[np.round(row * 32767).astype("<i2").tobytes()] for row in x]


def test_all_of_it(arabic: ArabicCommands, who: dict[bytes, tuple[str, str]]) -> None:
    assert isinstance(arabic, DataSet) and isinstance(data_sets.get("spoken-digits")(), DataSet)
    assert arabic.store.images.shape == (1200, 1, 16000)
    assert len(arabic.store.classes) == 40 and (arabic.store.sizes == 30).all()
    assert len(who) == 1200, "no recording occurs twice"


def test_no_word_and_no_speaker_of_the_test_is_met_before_it(arabic: ArabicCommands) -> None:
    words = {role: set(arabic.words(role)) for role in ("train", "validation", "test")}
    assert [len(words[role]) for role in words] == [24, 6, 10]
    assert not words["train"] & words["validation"] and not words["test"] & (words["train"] | words["validation"])
    voices: dict[str, frozenset[str]] = {role: arabic.voices(role) or frozenset() for role in arabic.splits}
    assert len(voices["train"]) == 18 and len(voices["test"]) == 12 and not voices["train"] & voices["test"]
    assert voices["validation"] == voices["train+validation"] == voices["train"]


def test_the_published_training_speakers(arabic: ArabicCommands, data_root: Path) -> None:
    lines = (data_root / "arabic-speech-commands" / "train.csv").read_text().splitlines()[1:]
    assert {line.split("/")[2][:8] for line in lines} == set(arabic.voices("train") or ())


@pytest.mark.parametrize("role", ["validation", "test"])
@pytest.mark.parametrize("shot", [1, 3, 5])
def test_support_and_query_of_a_task_have_no_speaker_in_common(
    arabic: ArabicCommands, who: dict[bytes, tuple[str, str]], role: str, shot: int
) -> None:
    source = arabic.tasks(role, way=5, shot=shot, query=5, seed=0)
    episode = source.episodes(range(40))
    assert episode.classes is not None and episode.query.y is not None
    voices = arabic.voices(role) or frozenset()
    for task in range(40):
        support, query = (heard(part, who, task) for part in (episode.support, episode.query))
        assert not {speaker for _, speaker in support} & {speaker for _, speaker in query}
        assert {speaker for _, speaker in support + query} <= voices
        names = [arabic.store.classes[int(c)] for c in episode.classes[task]]
        assert [word for word, _ in support] == [names[n // shot] for n in range(5 * shot)]
        assert [word for word, _ in query] == [names[int(y)] for y in episode.query.y[task]]
        assert len(set(support + query)) == len(support + query), "no recording is drawn twice"


def test_speakers_mix_where_that_is_asked_for(data_root: Path, cache: Path, who: dict[bytes, tuple[str, str]]) -> None:
    source = ArabicCommands(data_root, speaker_disjoint=False, speakers="all").tasks("test", **SIZES)
    episode = source.episodes(range(20))
    common = 0
    for task in range(20):
        support, query = (heard(part, who, task) for part in (episode.support, episode.query))
        common += len({s for _, s in support} & {s for _, s in query})
    assert common > 0 and source.settings["speaker_disjoint"] is False


@pytest.mark.parametrize("role", ["train", "test"])
@pytest.mark.parametrize("sizes", [SIZES, {**SIZES, "way": (2, 6), "shot": (1, 4), "query": (1, 4)}])
def test_a_task_is_a_pure_function_of_its_number(arabic: ArabicCommands, role: str, sizes: dict[str, Any]) -> None:
    together = arabic.tasks(role, **sizes).episodes(range(6))
    for task in (0, 5):
        alone = arabic.tasks(role, **sizes).episodes(range(task, task + 1))
        for part, other in ((alone.support, together.support), (alone.query, together.query)):
            n = first_leaf(part.x).shape[1]
            assert torch.equal(first_leaf(part.x)[0], first_leaf(other.x)[task, :n])
            assert part.y is not None and other.y is not None and torch.equal(part.y[0], other.y[task, :n])
            assert other.mask is None or int(other.mask[task].sum()) == n


def test_training_alone_is_augmented(arabic: ArabicCommands, data_root: Path) -> None:
    assert [arabic.tasks(r, **SIZES).settings["augmented"] for r in ("train", "validation", "test")] == [
        True,
        False,
        False,
    ]
    plain = ArabicCommands(data_root, augment=False).tasks("train", **SIZES).episodes(range(2))
    changed = arabic.tasks("train", **SIZES).episodes(range(2))
    assert not torch.equal(first_leaf(plain.support.x), first_leaf(changed.support.x))
    assert plain.classes is not None and changed.classes is not None and torch.equal(plain.classes, changed.classes)
    both = [first_leaf(part.x).std(-1) for part in (plain.query, changed.query)]
    assert float((both[1] / both[0]).log().abs().max()) < 1.2, "a gain of 6 dB, and masks"


def test_each_change_does_what_it_says() -> None:
    wave = np.sin(np.arange(8000) * 0.3, dtype=np.float32)[None, None].repeat(40, 1)
    none = Augmentation(speed=0, shift=0, gain=0, noise=(200, 200), time_mask=0, frequency_mask=0)
    key, tasks = Key.of(0), np.array([3])
    assert np.abs(none.apply(wave, key, tasks, 8000) - wave).max() < 1e-5
    louder = Augmentation(speed=0, shift=0, gain=6, noise=(200, 200), time_mask=0, frequency_mask=0)
    gain = louder.apply(wave, key, tasks, 8000).std(-1) / wave.std(-1)
    assert 0.49 < gain.min() < 0.7 and 1.4 < gain.max() < 2.01
    noisy = Augmentation(speed=0, shift=0, gain=0, noise=(10, 10), time_mask=0, frequency_mask=0)
    noise = noisy.apply(wave, key, tasks, 8000) - wave
    assert np.allclose(noise.std(-1) / wave.std(-1), 10**-0.5, atol=0.02)
    assert abs(np.corrcoef(noise[0, 0], noise[0, 1])[0, 1]) < 0.05, "each row its own"
    hushed = Augmentation(speed=0, shift=0, gain=0, noise=(200, 200), time_mask=0.5, frequency_mask=0)
    silent = (np.abs(hushed.apply(wave, key, tasks, 8000)) < 1e-6).mean(-1)
    assert silent.max() > 0.3 and silent.max() < 0.51
    filtered = Augmentation(speed=0, shift=0, gain=0, noise=(200, 200), time_mask=0, frequency_mask=0.5)
    left = filtered.apply(wave, key, tasks, 8000).std(-1)
    assert left.min() < 0.1 and left.max() > 0.7, "a tone is taken out, or it is not"
    moved = Augmentation(speed=0, shift=0.2, gain=0, noise=(200, 200), time_mask=0, frequency_mask=0)
    click = np.zeros((1, 40, 8000), dtype=np.float32)
    click[..., 4000] = 1
    where = moved.apply(click, key, tasks, 8000).argmax(-1)
    assert 2300 < where.min() < 3200 and 4800 < where.max() < 5700


def test_batches(arabic: ArabicCommands) -> None:
    batches = arabic.tasks("train", **SIZES).batches(16)
    first, again = batches.batch(3), arabic.tasks("train", **SIZES).batches(16).batch(3)
    assert first_leaf(first.x).shape == (1, 16, 8000) and batches.shape.example == (8000,)
    assert torch.equal(first_leaf(first.x), first_leaf(again.x))
    numbers = set(arabic.store.numbers(arabic.words("train")))
    assert first.y is not None and {int(y) for y in first.y[0]} <= numbers and batches.shape.outputs == 40


def test_hash_and_settings(arabic: ArabicCommands, data_root: Path) -> None:
    one = arabic.tasks("test", **SIZES)
    mixed = ArabicCommands(data_root, speaker_disjoint=False).tasks("test", **SIZES)
    everyone = ArabicCommands(data_root, speakers="all").tasks("test", **SIZES)
    assert len({source.hash for source in (one, mixed, everyone, arabic.tasks("train", **SIZES))}) == 4
    assert one.hash == ArabicCommands(data_root).tasks("test", **SIZES).hash
    assert one.settings["data"] == "arabic-commands" and "rotations" not in one.settings


def test_digits(data_root: Path, cache: Path) -> None:
    data = SpokenDigits(data_root)
    source = data.tasks("test", way=5, shot=5, query=10, seed=0)
    assert isinstance(source, SoundTasks) and data.splits == ("test",)
    assert len(data.recordings) == 3000 and data.speakers is not None and len(data.speakers.names) == 6
    rows = {row.tobytes(): r.speaker for row, r in zip(data.store.images, data.recordings, strict=True)}
    episode = source.episodes(range(10))
    for task in range(10):
        parts = [
            {rows[np.round(row * 32767).astype("<i2").tobytes()] for row in first_leaf(part.x)[task].numpy()}
            for part in (episode.support, episode.query)
        ]
        assert len(parts[0]) == len(parts[1]) == 3 and not parts[0] & parts[1]


def test_no_data(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(
        DataError, match=r"Cannot find Arabic Speech Commands: there is neither .*dataset_round01\.zip nor"
    ):
        ArabicCommands(tmp_path).tasks("test", **SIZES)
    with pytest.raises(DataError, match=r"Cannot find Free Spoken Digits: .* holds free-spoken-digit/"):
        SpokenDigits(tmp_path).tasks("test", **SIZES)
    folder = tmp_path / "free-spoken-digit"
    folder.mkdir()
    (folder / "recordings.zip").write_bytes(b"PK, but not really")
    with pytest.raises(DataError, match=r"recordings\.zip: it is half downloaded or damaged .*Copy it again"):
        SpokenDigits(tmp_path).tasks("test", **SIZES)


def test_unpacked(data_root: Path, tmp_path: Path, cache: Path) -> None:
    """As it lies after unzipping."""
    import zipfile

    folder = tmp_path / "free-spoken-digit"
    with zipfile.ZipFile(data_root / "free-spoken-digit" / "recordings.zip") as archive:
        archive.extractall(
            folder, [f"recordings/{d}_{s}_{n}.wav" for d in range(10) for s in ("theo", "nicolas") for n in range(2)]
        )
    data = SpokenDigits(tmp_path)
    assert len(data.recordings) == 40
    assert data.tasks("test", way=2, shot=1, query=1, seed=0).episodes(range(2)).query.n_task == 2
    (folder / "recordings" / "3_theo_1.wav").unlink()
    assert len(SpokenDigits(tmp_path).recordings) == 39
    for path in (folder / "recordings").glob("3_*"):
        path.unlink()
    with pytest.raises(DataError, match=r"there is no recording of the digit 3\. Copy the data again"):
        _ = SpokenDigits(tmp_path).recordings


def test_takes(tmp_path: Path, cache: Path, arabic: ArabicCommands) -> None:
    """As many of those that were published as are asked for; one, whatever is there, by default."""
    folder = tmp_path / "arabic-speech-commands" / "dataset"
    for recording in arabic.recordings[::30]:
        (folder / recording.word).mkdir(parents=True)
        for take in (1, 2, 10):
            name = f"{recording.speaker}_NO_{take:02}.wav"
            (folder / recording.word / name).write_bytes(recording.read())
    assert [len(ArabicCommands(tmp_path, takes=takes).recordings) for takes in (1, 2, 9, 10)] == [40, 80, 80, 120]
    assert ArabicCommands(tmp_path).store.hash != ArabicCommands(tmp_path, takes=2).store.hash
    with pytest.raises(InputError, match=r"Cannot use takes = 11: expected 1 to 10"):
        ArabicCommands(tmp_path, takes=11)
