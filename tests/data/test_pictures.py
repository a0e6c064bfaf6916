"""A folder of one's own pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.data.classfolders import divide
from quickstudy.data.pictures import Images
from quickstudy.data.registry import data_sets
from quickstudy.episode import first_leaf
from quickstudy.errors import DataError, InputError, UnknownName
from tests.data.picturesmade import drawn, folder_of_pictures

CLASSES = [f"kind {n}" for n in range(9)]
SIZES: dict[str, Any] = {"way": 2, "shot": 1, "query": 2, "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_pictures(tmp_path_factory.mktemp("own") / "pictures", CLASSES)


def test_classes_are_divided(folder: Path, cache: Path) -> None:
    data = data_sets.get("images")(folder)
    parts = [data.divided[role] for role in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [5, 2, 2]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(CLASSES)
    assert data.divided["train+validation"] == sorted(parts[0] + parts[1])
    assert Images(folder, size=32).divided == data.divided, "the names alone decide"


def test_a_task(folder: Path, cache: Path) -> None:
    data = Images(folder, size=24)
    source = data.tasks("test", **SIZES)
    assert source.shape.example == data.shape == (3, 24, 24) and source.settings["augmented"] is False
    episode = source.episodes(range(4))
    x = first_leaf(episode.query.x)
    assert x.shape == (4, 4, 3, 24, 24) and x.dtype == torch.uint8
    assert set(source.names_of(episode)) == set(data.divided["test"])
    grey = Images(folder, size=24, channels=1).tasks("train", **SIZES)
    assert grey.shape.example == (1, 24, 24) and first_leaf(grey.episodes(range(1)).support.x).shape == (1, 2, 24, 24)


def test_the_pictures_are_those_of_the_files(folder: Path, cache: Path) -> None:
    data = Images(folder, size=30)
    for number, name in enumerate(sorted(CLASSES)):
        for take, stored in enumerate(data.store.of(number)):
            picture = Image.open(folder / name / f"{take}.png").crop((5, 0, 35, 30))
            assert np.array_equal(np.moveaxis(stored, 0, 2), np.asarray(picture))


@pytest.mark.parametrize("sizes", [SIZES, {**SIZES, "way": (2, 4), "shot": (1, 2), "query": (1, 2)}])
def test_a_training_task_is_changed_and_a_pure_function_of_its_number(
    folder: Path, cache: Path, sizes: dict[str, Any]
) -> None:
    together = Images(folder, size=24).tasks("train", **sizes).episodes(range(6))
    for task in (0, 5):
        alone = Images(folder, size=24).tasks("train", **sizes).episodes(range(task, task + 1))
        for part, other in ((alone.support, together.support), (alone.query, together.query)):
            n = first_leaf(part.x).shape[1]
            assert torch.equal(first_leaf(part.x)[0], first_leaf(other.x)[task, :n])
    plain = Images(folder, size=24, augment=False).tasks("train", **sizes).episodes(range(6))
    assert not torch.equal(first_leaf(plain.query.x), first_leaf(together.query.x))
    assert plain.classes is not None and together.classes is not None and torch.equal(plain.classes, together.classes)
    if together.query.mask is not None:
        assert (first_leaf(together.query.x)[~together.query.mask] == 0).all()


def test_batches(folder: Path, cache: Path) -> None:
    data = Images(folder, size=24)
    first = data.tasks("train", **SIZES).batches(8).batch(3)
    again = data.tasks("train", **SIZES).batches(8)
    assert first_leaf(first.x).shape == (1, 8, 3, 24, 24) and again.shape.example == (3, 24, 24)
    assert torch.equal(first_leaf(first.x), first_leaf(again.batch(3).x)) and again.shape.outputs == 9
    plain = Images(folder, size=24, augment=False).tasks("train", **SIZES).batches(8).batch(3)
    assert plain.y is not None and first.y is not None and torch.equal(plain.y, first.y)
    assert not torch.equal(first_leaf(plain.x), first_leaf(first.x)) and again.settings["batch"] == 8
    assert again.hash == data.tasks("train", **SIZES).hash


def test_training_does_not_move_with_the_pictures_of_the_test(tmp_path: Path, cache: Path) -> None:
    folder_of_pictures(tmp_path / "w", CLASSES)

    def drawn_of(role: str) -> torch.Tensor:
        return first_leaf(Images(tmp_path / "w", size=24).tasks(role, **SIZES).episodes(range(8)).query.x)

    before = {role: drawn_of(role) for role in ("train", "validation", "test")}
    for number, name in enumerate(Images(tmp_path / "w").divided["test"]):
        for take in range(4):
            drawn(77 + number, take).save(tmp_path / "w" / name / f"{take}.png")
    assert torch.equal(drawn_of("train"), before["train"]) and torch.equal(drawn_of("validation"), before["validation"])
    assert not torch.equal(drawn_of("test"), before["test"])


def test_a_changed_file_is_read_anew(tmp_path: Path, cache: Path) -> None:
    folder_of_pictures(tmp_path / "w", ["a", "b"])
    before = Images(tmp_path / "w", split="test").store.hash
    assert Images(tmp_path / "w", split="test").store.hash == before
    drawn(5, 5).save(tmp_path / "w" / "a" / "0.png")
    assert Images(tmp_path / "w", split="test").store.hash != before


def test_all_classes_test(folder: Path, cache: Path) -> None:
    data = Images(folder, split="test")
    assert data.splits == ("test",) and data.divided == {"test": sorted(CLASSES)}
    with pytest.raises(UnknownName, match=r"no split of images called 'train'"):
        data.tasks("train", **SIZES)


def laid_out(folder: Path, **parts: list[str]) -> Path:
    for number, (part, classes) in enumerate(parts.items()):
        folder_of_pictures(folder / part, classes, takes=3, first=20 * number)
    return folder


def test_the_folders_say_which_part_a_class_plays(tmp_path: Path, cache: Path) -> None:
    data = Images(laid_out(tmp_path, train=["a", "b"], Val=["c", "d"], test=["e", "f", "g"]), size=16)
    assert data.divided["train"] == ["a", "b"] and data.divided["validation"] == ["c", "d"]
    assert data.divided["test"] == ["e", "f", "g"] and data.divided["train+validation"] == ["a", "b", "c", "d"]
    source = data.tasks("test", **SIZES)
    assert {name for t in range(20) for name in source.names_of(source.episodes(range(t, t + 1)))} == {"e", "f", "g"}
    everything = Images(tmp_path, size=16, split="test")
    assert everything.divided == {"test": list("abcdefg")}, "from wherever they lie"
    by_names = Images(tmp_path, size=16, split="names")
    with pytest.raises(DataError, match=r"Cannot divide the classes of .*: it has 3 \(Val, test, train\)"):
        _ = by_names.divided


def test_nothing_to_validate_on(tmp_path: Path, cache: Path) -> None:
    data = Images(laid_out(tmp_path / "x", train=list("abcdefgh"), test=["y", "z"]), size=16)
    assert len(data.divided["validation"]) == 2 and len(data.divided["train"]) == 6
    assert not set(data.divided["validation"]) & set(data.divided["train"])
    with pytest.raises(DataError, match=r"Cannot set classes of .*train apart for validation: it has 2 \(a, b\)"):
        _ = Images(laid_out(tmp_path / "y", train=["a", "b"], test=["y", "z"])).divided


def test_parts_that_are_not_laid_out_as_such_are_no_classes(tmp_path: Path, cache: Path) -> None:
    halves = laid_out(tmp_path / "halves", train=["a", "b"], val=["c", "d"])
    with pytest.raises(DataError, match=r"what the folders of .*halves are: train, val hold .*, but test/ is missing"):
        _ = Images(halves).divided
    assert Images(halves, split="test").divided == {"test": list("abcd")}, "not 'train' and 'val'"
    beside = laid_out(tmp_path / "beside", train=["a", "b"], test=["c", "d"], extra=["e"])
    for split in ("auto", "test"):
        with pytest.raises(DataError, match=r"test, train hold folders, .*, but extra/ is none.*say split = 'names'"):
            _ = Images(beside, split=split).divided
    assert set(Images(beside, split="names")._folders.files.values()) == {"train", "test", "extra"}
    trains = folder_of_pictures(tmp_path / "trains", ["train", "test", "bus", "car", "tram", "ship"])
    assert {name for part in Images(trains).divided.values() for name in part} >= {"train", "test", "bus"}


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("TRAIN", "dev", "TEST"),
        ("training_set", "valid", "test-set"),
        ("train images", "VAL", "test images"),
    ],
)
def test_parts_in_other_spellings(tmp_path: Path, cache: Path, train: str, validation: str, test: str) -> None:
    laid_out(tmp_path, **{train: ["a", "b"], validation: ["c", "d"], test: ["e", "f"]})
    data = Images(tmp_path, size=16)
    assert [data.divided[role] for role in ("train", "validation", "test")] == [["a", "b"], ["c", "d"], ["e", "f"]]
    everything = Images(tmp_path, size=16, split="test")
    assert everything.divided == {"test": list("abcdef")} and everything.store.classes == tuple("abcdef")


def test_parts_that_hold_no_classes(tmp_path: Path, cache: Path) -> None:
    flat = folder_of_pictures(tmp_path / "flat", ["Training", "Testing"])
    alone = laid_out(tmp_path / "alone", train=["a", "b"])
    half = laid_out(tmp_path / "half", train=["a", "b"])
    folder_of_pictures(half, ["test"])
    double = laid_out(tmp_path / "double", train=["a"], Training=["b"], test=["c"])
    for folder, said in (
        (flat, r"Testing, Training hold pictures, as .*, but Testing/ has no folder for each class"),
        (alone, r"train hold folders, as .*, but test/ is missing"),
        (half, r"test, train hold folders, as .*, but test/ has no folder for each class"),
        (double, r"Training, test, train hold folders, as .*, but Training/ is the second of its kind"),
    ):
        with pytest.raises(DataError, match=said):
            _ = Images(folder).divided
    for folder in (flat, half, double):
        with pytest.raises(DataError, match=r"as parts of the data do"):
            _ = Images(folder, split="test").divided
    assert Images(alone, split="test").divided == {"test": ["a", "b"]}
    assert Images(flat, split="names", size=16).store.classes == ("Testing", "Training")


def test_a_division_by_names_has_a_cache_of_its_own(tmp_path: Path, cache: Path) -> None:
    """The same files, other classes."""
    laid_out(tmp_path, train=["a", "b"], test=["c", "d"], val=["e", "f"])
    assert Images(tmp_path, size=16).store.classes == tuple("abcdef")
    assert Images(tmp_path, size=16, split="names").store.classes == ("test", "train", "val")


def test_names_in_small_and_capital_letters(tmp_path: Path, cache: Path) -> None:
    data = Images(laid_out(tmp_path / "parts", train=["kite", "b"], test=["Kite", "z"]))
    with pytest.raises(DataError, match=r"class 'kite' of .*: it lies both among test, as 'Kite' and train, and a"):
        _ = data.divided
    letters = [f"{letter} {n}" for n in range(8) for letter in "Aa"]
    parts = divide(letters)
    assert parts is not None and sorted(parts["train"] + parts["validation"] + parts["test"]) == sorted(letters)
    for part in parts.values():
        assert {name.swapcase() for name in part} == set(part), "both letters play the same part"


def test_accents_written_apart(tmp_path: Path, cache: Path) -> None:
    """One system writes a name in one way, another in the other; a copy is divided alike."""
    together, apart = "caf\u00e9", "cafe\u0301"
    for place, name in (("one", together), ("other", apart)):
        folder_of_pictures(tmp_path / place, [name, *CLASSES])
    one, other = Images(tmp_path / "one", size=16), Images(tmp_path / "other", size=16)
    assert one.divided == other.divided and together in one.store.classes and one.store.hash == other.store.hash
    laid_out(tmp_path / "parts", train=[together, "b"], test=[apart, "z"])
    with pytest.raises(DataError, match=r"it lies both among test and train"):
        _ = Images(tmp_path / "parts").divided


def test_links_are_followed(tmp_path: Path, cache: Path) -> None:
    folder_of_pictures(tmp_path / "elsewhere", ["a", "more"])
    folder_of_pictures(tmp_path / "w", ["b"], first=5)
    (tmp_path / "w" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "w" / "b" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "elsewhere" / "more" / "ring").symlink_to(tmp_path / "w" / "b")
    data = Images(tmp_path / "w", split="test", size=16)
    assert data.store.classes == ("a", "b") and data.store.sizes.tolist() == [4, 8]


def test_halves_of_the_same_classes_all_test(tmp_path: Path, cache: Path) -> None:
    """The layout of plain classification: each class in both."""
    folder = laid_out(tmp_path, train=["a", "b"])
    (folder / "test").mkdir()
    for number, name in enumerate("ab"):
        (folder / "test" / name).mkdir()
        drawn(number, 9).save(folder / "test" / name / "9.png")
        drawn(number, 10).save(folder / "test" / name / "10.png")
    data = Images(folder, split="test", size=16)
    assert data.divided == {"test": ["a", "b"]} and data.store.sizes.tolist() == [5, 5]


def test_a_copy_is_left_out(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the support and in the query of a task it would be looked up."""
    folder_of_pictures(tmp_path / "w", ["a", "b"])
    alone = Images(tmp_path / "w", split="test", size=16).store.hash
    for name in ("0 copy.png", "0.bmp", "z.tif"):
        Image.open(tmp_path / "w" / "a" / "0.png").save(tmp_path / "w" / "a" / name)
    data = Images(tmp_path / "w", split="test", size=16)
    assert data.store.sizes.tolist() == [4, 4] and data.store.hash == alone
    assert "3 pictures are copies of others and were left out, such as" in caplog.text
    for take in (1, 2, 3):
        (tmp_path / "w" / "b" / f"{take}.png").write_bytes((tmp_path / "w" / "b" / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"Cannot use the class 'b': all its files hold the same picture"):
        _ = Images(tmp_path / "w", split="test", size=16).store


def test_a_picture_of_two_classes(tmp_path: Path, cache: Path) -> None:
    """It might be trained on and tested on, and has no one answer."""
    folder_of_pictures(tmp_path / "w", ["a", "b"])
    for take in (0, 1):
        drawn(0, take).save(tmp_path / "w" / "b" / f"again {take}.png")
    said = r"b/again 0\.png: its class is 'b', and the same picture lies in 'a', as .*a/0\.png\. .*: .*again 1\.png\."
    with pytest.raises(DataError, match=said):
        _ = Images(tmp_path / "w", split="test").store


def test_a_class_on_both_sides(tmp_path: Path, cache: Path) -> None:
    data = Images(laid_out(tmp_path, train=["a", "b", "c"], test=["a", "b", "z"], val=["v", "w"]))
    said = r"Cannot use the class 'a' of .*: it lies both among test and train, .*Neither can be used: 'b'\."
    with pytest.raises(DataError, match=said):
        _ = data.divided


def test_what_is_no_picture_is_passed_over(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder_of_pictures(tmp_path / "w", ["a", "b"], takes=2, suffix=".JPEG")
    (tmp_path / "w" / "a" / "notes.txt").write_text("nothing")
    (tmp_path / "w" / "a" / "._0.png").write_bytes(b"a file system's own")
    (tmp_path / "w" / ".hidden").mkdir()
    (tmp_path / "w" / "__MACOSX").mkdir()
    drawn(7, 7).save(tmp_path / "w" / "stray.png")
    (tmp_path / "w" / "b" / "photo.heic").write_bytes(b"not read here")
    drawn(8, 8).save(tmp_path / "w" / "b" / "2.jfif", "JPEG")
    data = Images(tmp_path / "w", split="test", size=16)
    assert data.store.sizes.tolist() == [2, 3]
    assert f"Passed over, as no pictures of a class: {tmp_path / 'w' / 'stray.png'} and 2 more." in caplog.text
    caplog.clear()
    assert Images(tmp_path / "w", split="test", size=16).store.hash == data.store.hash and not caplog.text, "said once"


def test_broken_files_are_named_together(tmp_path: Path, cache: Path) -> None:
    folder_of_pictures(tmp_path / "w", ["a", "b"], takes=9)
    (tmp_path / "w" / "a" / "0.png").write_bytes(b"")
    for take in range(7):
        (tmp_path / "w" / "b" / f"{take}.png").write_text("no picture")
    said = r"a/0\.png: the file is empty .*Neither can be used: .*b/0\.png, .*b/4\.png and 2 more\."
    with pytest.raises(DataError, match=said):
        Images(tmp_path / "w", split="test").tasks("test", **SIZES)


def test_a_file_that_may_not_be_read(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_pictures(tmp_path / "w", ["a", "b"])
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "1.png" and path.parent.name == "b":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"Cannot read .*b/1\.png: Permission denied\."):
        _ = Images(tmp_path / "w", split="test").store


def test_folders_that_do_not_do(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match=r"it is not said where\. Give a folder .*: --data\.folder DIR"):
        _ = Images().pictures
    with pytest.raises(DataError, match=r"pictures: .*nowhere is no folder\. Give one with a subfolder a class"):
        _ = Images(tmp_path / "nowhere").pictures
    with pytest.raises(DataError, match=r"Cannot find classes in .*: it has no subfolders\. Make one for each class"):
        _ = Images(tmp_path).pictures
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    said = r"Cannot use the folder .*x: it holds no picture \(\.png, .*Neither can be used: .*y\."
    with pytest.raises(DataError, match=said):
        _ = Images(tmp_path).pictures
    for number, name in enumerate("xy"):
        drawn(number, 1).save(tmp_path / name / "one.png")
    said = r"the class 'x': it has a single picture, .*x/one\.png, .*Add one, or .*Neither can be used: 'y'\."
    with pytest.raises(DataError, match=said):
        _ = Images(tmp_path).pictures
    for number, name in enumerate("xy"):
        drawn(number, 2).save(tmp_path / name / "two.png")
    with pytest.raises(DataError, match=r"Cannot divide the classes of .*: it has 2 \(x, y\), and each part needs two"):
        _ = Images(tmp_path).divided
    with pytest.raises(InputError, match=r"the class 'x' has only 2 examples\. Reduce shot or query"):
        Images(tmp_path, split="test").tasks("test", way=2, shot=1, query=5, seed=0)


@pytest.mark.parametrize(("option", "value"), [("size", 8), ("size", 1000), ("channels", 2)])
def test_options_that_make_no_sense(tmp_path: Path, option: str, value: int) -> None:
    with pytest.raises(InputError, match=rf"Cannot use {option} = {value}: expected"):
        Images(tmp_path, **{option: value})  # type: ignore[arg-type]


def test_names_divide_alike_everywhere() -> None:
    assert divide("abcde") is None
    parts = divide([f"class {n}" for n in range(40)])
    assert parts is not None and [len(parts[r]) for r in ("train", "validation", "test")] == [24, 6, 10]
    assert divide(reversed([f"class {n}" for n in range(40)])) == parts
