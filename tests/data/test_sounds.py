"""A folder of one's own recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from quickstudy.data.registry import data_sets
from quickstudy.data.sounds import Sounds
from quickstudy.episode import first_leaf
from quickstudy.errors import DataError, InputError, UnknownName
from tests.data.soundfiles import folder_of_words

WORDS = {f"word {n}": 200.0 * 1.2**n for n in range(9)}
SPEAKERS = {"anna": 16000, "ben": 8000, "cy": 44100}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_words(tmp_path_factory.mktemp("own") / "words", WORDS, SPEAKERS)


def test_words_are_divided(folder: Path, cache: Path) -> None:
    data = data_sets.get("sounds")(folder)
    parts = [data.words(role) for role in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [5, 2, 2]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(WORDS)
    assert data.words("train+validation") == sorted(parts[0] + parts[1])
    assert Sounds(folder, rate=16000).words("test") == parts[2], "the names alone decide"


def test_a_task(folder: Path, cache: Path) -> None:
    data = Sounds(folder, speakers="name")
    source = data.tasks("test", way=2, shot=1, query=2, seed=0)
    assert source.shape.example == data.shape == (8000,) and source.settings["speaker_disjoint"] is True
    episode = source.episodes(range(4))
    x = first_leaf(episode.query.x)
    assert x.shape == (4, 4, 8000) and x.dtype == torch.float32 and float(x.abs().max()) <= 1
    assert {name for name in source.names_of(episode)} == set(data.words("test"))


def test_queries_of_other_speakers(folder: Path, cache: Path) -> None:
    """For robustness: the tasks that are drawn where speakers are divided from the start."""
    sizes = {"way": 2, "shot": 1, "query": 2, "seed": 0}
    mixed = Sounds(folder, speakers="name", speaker_disjoint=False).tasks("test", **sizes)
    divided = Sounds(folder, speakers="name").tasks("test", **sizes)
    mixed_hash, apart = mixed.hash, mixed.apart()
    assert apart.settings == divided.settings != mixed.settings and apart.hash == divided.hash != mixed_hash
    found, expected, before = (one.episodes(range(3)) for one in (apart, divided, mixed))
    assert first_leaf(found.query.x).equal(first_leaf(expected.query.x))
    assert not first_leaf(found.query.x).equal(first_leaf(before.query.x))
    assert found.classes is not None and before.classes is not None and found.classes.equal(before.classes)
    assert mixed.hash == mixed_hash and not mixed.settings["speaker_disjoint"]
    with pytest.raises(
        InputError, match=r"queries are of other speakers than the support already \(speaker-disjoint\)"
    ):
        divided.apart()
    with pytest.raises(InputError, match=r"Cannot divide the speakers of sounds/test: it is not known who speaks"):
        Sounds(folder).tasks("test", **sizes).apart()


def test_the_folders_say_which_part_a_word_plays(tmp_path: Path, cache: Path) -> None:
    pitches = iter(WORDS.values())
    for part, words in (("Training", "abc"), ("Testing", "xyz"), ("valid", "vw")):
        folder_of_words(tmp_path / part, {word: next(pitches) for word in words}, {"anna": 8000, "ben": 16000})
    data = Sounds(tmp_path, speakers="name")
    assert [data.words(role) for role in ("train", "validation", "test")] == [list("abc"), list("vw"), list("xyz")]
    assert Sounds(tmp_path, split="test").words("test") == list("abcvwxyz"), "not 'Testing' and 'Training'"
    assert set(data.tasks("test", way=3, shot=1, query=1, seed=0).origin.names) == set("xyz")  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"Cannot divide the words of .*: it has 3 \(Testing, Training, valid\)"):
        Sounds(tmp_path, split="names").words("test")
    (tmp_path / "Testing" / "x").rename(tmp_path / "Testing" / "A")
    with pytest.raises(DataError, match=r"Cannot use the word 'a' of .*: it lies both among test, as 'A' and train"):
        Sounds(tmp_path).words("test")


def test_a_speaker_is_one_person_however_the_name_is_written(tmp_path: Path, cache: Path) -> None:
    folder_of_words(tmp_path / "w", {"a": 300.0, "b": 600.0}, {"anna": 8000, "Anna": 16000, "ben": 11025})
    data = Sounds(tmp_path / "w", split="test", speakers="name")
    assert data.speakers is not None and data.speakers.names == ("anna", "ben")


def test_all_words_test(folder: Path, cache: Path) -> None:
    data = Sounds(folder, split="test")
    assert data.splits == ("test",) and data.words("test") == sorted(WORDS)
    assert data.tasks("test", way=9, shot=1, query=1, seed=0).settings["speaker_disjoint"] is False
    with pytest.raises(UnknownName, match=r"no split of sounds called 'train'"):
        data.tasks("train", way=2, shot=1, query=1, seed=0)


def test_speakers_by_folder(tmp_path: Path, cache: Path) -> None:
    for word in ("yes", "no"):
        for speaker in ("anna", "ben"):
            (tmp_path / word / speaker).mkdir(parents=True)
            for take in range(2):
                soundfile.write(tmp_path / word / speaker / f"{take}.flac", np.full(400, 0.1), 8000)
    data = Sounds(tmp_path, split="test", speakers="folder")
    assert data.speakers is not None and data.speakers.names == ("anna", "ben")
    assert len(data.recordings) == 8
    soundfile.write(tmp_path / "yes" / "x.wav", np.full(400, 0.1), 8000)
    with pytest.raises(DataError, match=r"who speaks in .*yes/x\.wav: .* files lie in WORD/SPEAKER/"):
        _ = Sounds(tmp_path, speakers="folder").recordings
    (tmp_path / "yes" / "x.wav").unlink()
    (tmp_path / "all" / "train").mkdir(parents=True)
    (tmp_path / "all" / "test").mkdir()
    (tmp_path / "yes").rename(tmp_path / "all" / "train" / "yes")
    (tmp_path / "no").rename(tmp_path / "all" / "test" / "no")
    below = Sounds(tmp_path / "all", split="test", speakers="folder").speakers
    assert below is not None and below.names == ("anna", "ben"), "below the part's folder, too"


def test_a_changed_file_is_read_anew(tmp_path: Path, cache: Path) -> None:
    folder_of_words(tmp_path / "w", {"a": 300.0, "b": 600.0}, {"anna": 8000})
    before = Sounds(tmp_path / "w", split="test").store.hash
    assert Sounds(tmp_path / "w", split="test").store.hash == before
    soundfile.write(tmp_path / "w" / "a" / "anna_0.wav", np.full(500, 0.5), 8000)
    assert Sounds(tmp_path / "w", split="test").store.hash != before


def test_training_does_not_move_with_the_recordings_of_the_test(tmp_path: Path, cache: Path) -> None:
    """Nor do tasks of the test with those of training: nothing is measured over words."""
    folder_of_words(tmp_path / "w", WORDS, {"anna": 16000, "ben": 8000})
    sizes = {"way": 2, "shot": 1, "query": 1, "seed": 0}

    def drawn(role: str) -> tuple[torch.Tensor, torch.Tensor]:
        episode = Sounds(tmp_path / "w", speakers="name").tasks(role, **sizes).episodes(range(8))
        return first_leaf(episode.support.x), first_leaf(episode.query.x)

    before = {role: drawn(role) for role in ("train", "validation", "test")}
    rng = np.random.default_rng(0)
    for word in Sounds(tmp_path / "w").words("test"):
        for path in (tmp_path / "w" / word).iterdir():
            soundfile.write(path, rng.normal(size=3000) / 10, 8000)
    for role in ("train", "validation"):
        assert all(torch.equal(a, b) for a, b in zip(drawn(role), before[role], strict=True))
    assert not torch.equal(drawn("test")[0], before["test"][0])


def test_a_file_that_may_not_be_read(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_words(tmp_path / "w", {"a": 300.0, "b": 600.0}, {"anna": 8000})
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "anna_1.wav" and path.parent.name == "b":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"Cannot read .*b/anna_1\.wav: Permission denied\."):
        _ = Sounds(tmp_path / "w", split="test").store


def test_what_is_not_sound_is_passed_over(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder_of_words(tmp_path / "w", {"a": 300.0, "b": 600.0}, {"anna": 8000})
    (tmp_path / "w" / "a" / "notes.txt").write_text("nothing")
    (tmp_path / "w" / "a" / "._anna_0.wav").write_bytes(b"a file system's own")
    (tmp_path / "w" / ".hidden").mkdir()
    data = Sounds(tmp_path / "w", split="test")
    assert len(data.recordings) == 4 and data.store.sizes.tolist() == [2, 2]
    assert f"Passed over, as no recordings of a word: {tmp_path / 'w' / 'a' / 'notes.txt'}." in caplog.text


def test_copies_are_refused(tmp_path: Path, cache: Path) -> None:
    """In the support and in the query of a task they would be looked up."""
    folder_of_words(tmp_path / "w", {"a": 200.0, "b": 300.0}, SPEAKERS)
    wave = next((tmp_path / "w" / "a").iterdir()).read_bytes()
    for place in ("a/copy.wav", "b/zz.wav"):
        (tmp_path / "w" / place).write_bytes(wave)
    said = r"Cannot use .*a/\w+\.wav: it holds the same sound as .*a/\w+\.wav, .*: .*b/zz\.wav\."
    with pytest.raises(DataError, match=said):
        _ = Sounds(tmp_path / "w", split="test").store


def test_broken_files_are_named_together(tmp_path: Path, cache: Path) -> None:
    folder_of_words(tmp_path / "w", {"a": 300.0, "b": 600.0}, {"anna": 8000})
    (tmp_path / "w" / "a" / "anna_0.wav").write_bytes(b"")
    (tmp_path / "w" / "b" / "anna_1.wav").write_text("no sound")
    with pytest.raises(DataError, match=r"a/anna_0\.wav: the file is empty .*Neither can be used: .*b/anna_1\.wav\."):
        Sounds(tmp_path / "w", split="test").tasks("test", way=2, shot=1, query=1, seed=0)


def test_folders_that_do_not_do(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match=r"it is not said where\. Give a folder .*: --data\.folder DIR"):
        _ = Sounds().recordings
    with pytest.raises(DataError, match=r"recordings: .*nowhere is no folder\. Give one with a subfolder a word"):
        _ = Sounds(tmp_path / "nowhere").recordings
    with pytest.raises(DataError, match=r"Cannot find words in .*: it has no subfolders"):
        _ = Sounds(tmp_path).recordings
    (tmp_path / "yes").mkdir()
    with pytest.raises(DataError, match=r"Cannot use the folder .*yes: it holds no sound file \(\.wav, \.flac"):
        _ = Sounds(tmp_path).recordings
    soundfile.write(tmp_path / "yes" / "one.wav", np.zeros(100), 8000)
    with pytest.raises(DataError, match=r"the word 'yes': it has a single recording, .*yes/one\.wav, and a task needs"):
        _ = Sounds(tmp_path).recordings
    soundfile.write(tmp_path / "yes" / "two.wav", np.zeros(100), 8000)
    with pytest.raises(DataError, match=r"Cannot divide the words of .*: it has 1 \(yes\), and each part needs two"):
        Sounds(tmp_path).words("train")
    with pytest.raises(DataError, match=r"who speaks in .*one\.wav: with speakers = 'name' a file is called SPEAKER_"):
        _ = Sounds(tmp_path, speakers="name").recordings


def test_speakers_that_cannot_be_divided(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match=r"speakers of support and query apart .*Say speakers = 'name'"):
        Sounds(tmp_path, speaker_disjoint=True)
    folder_of_words(tmp_path / "w", {"a": 300.0, "b": 600.0}, {"anna": 8000})
    with pytest.raises(InputError, match=r"all recordings of the word 'a' are of one speaker\. Record a second one"):
        Sounds(tmp_path / "w", split="test", speakers="name").tasks("test", way=2, shot=1, query=1, seed=0)
    rng = np.random.default_rng(0)
    for n in range(3):  # now a is spoken by anna and ben, b by anna and cy
        soundfile.write(tmp_path / "w" / "a" / f"ben_{n}.wav", rng.normal(size=400) / 10, 8000)
        soundfile.write(tmp_path / "w" / "b" / f"cy_{n}.wav", rng.normal(size=400) / 10, 8000)
    data = Sounds(tmp_path / "w", split="test", speakers="name")
    for shot, query in ((3, 2), (2, 3)):  # anna is asked for, or learned from, and the others the other way round
        assert data.tasks("test", way=2, shot=shot, query=query, seed=0).episodes(range(5)).query.n_task == 5
    with pytest.raises(InputError, match=r"Cannot draw task 0 of sounds/test: found no way in 64 tries .* 3 speakers"):
        data.tasks("test", way=2, shot=1, query=4, seed=0).episodes(range(1))


@pytest.mark.parametrize(("option", "value"), [("rate", 100), ("seconds", 0.0), ("seconds", float("nan"))])
def test_options_that_make_no_sense(tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"Cannot use {option} = {value}: expected"):
        Sounds(tmp_path, **{option: value})  # type: ignore[arg-type]
