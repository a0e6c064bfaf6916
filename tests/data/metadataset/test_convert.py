"""All ten raw layouts become records, picture by picture as the official conversion makes them."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from quickstudy.data.metadataset import convert as converting
from quickstudy.data.metadataset.convert import READERS, convert
from quickstudy.data.metadataset.examples import parse_example
from quickstudy.data.metadataset.records import read_records, write_records
from quickstudy.data.metadataset.specs import COUNTS, LISTS, SPEC, spec_of
from quickstudy.errors import DataError, InputError, StorageError
from tests.data.metadataset import made


@pytest.fixture(autouse=True)
def small_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    special = {"traffic_sign": (0, 0, 7), "mscoco": (0, 4, 3)}
    for name in COUNTS:
        monkeypatch.setitem(COUNTS, name, special.get(name, made.PARTS))


def pictures(folder: Path, number: int) -> list[bytes]:
    found = []
    for content in read_records(folder / f"{number}.tfrecords"):
        features = parse_example(content, "it")
        assert features["label"] == [number] and sorted(features) == ["image", "label"]
        (picture,) = features["image"]
        assert isinstance(picture, bytes)
        found.append(picture)
    return found


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("name", READERS)
def test_each_layout(tmp_path: Path, name: str) -> None:
    raw = made.make(name, tmp_path)
    told: list[tuple[int, int]] = []
    folder = convert(name, raw, root=tmp_path, progress=lambda done, total: told.append((done, total)))
    assert folder == tmp_path / "meta-dataset" / name
    assert told[-1] == (7 * made.EACH, 7 * made.EACH) and told == sorted(told)
    listed = json.loads((tmp_path / LISTS / "dataset_specs" / f"{name}_dataset_spec.json").read_text())
    written = json.loads((folder / SPEC).read_text())
    assert written | {"path": ""} == listed | {"path": ""} and written["path"] == str(folder)
    assert spec_of(folder).images == (made.EACH,) * 7
    for number in range(7):
        found = pictures(folder, number)
        assert len(found) == made.EACH and len(set(found)) == made.EACH
        assert all(Image.open(io.BytesIO(one)).format == "JPEG" for one in found)
        assert all(Image.open(io.BytesIO(one)).mode == "RGB" for one in found)


def test_jpeg_files_stay_as_they_are(tmp_path: Path) -> None:
    raw = made.make("cu_birds", tmp_path)
    folder = convert("cu_birds", raw, root=tmp_path)
    files = sorted((raw / "images" / "003.Bird_3").iterdir())
    found = pictures(folder, 0)  # the first of the list, not of the alphabet
    assert found[1:] == [file.read_bytes() for file in files[1:]]
    assert found[0] == jpeg(Image.open(files[0]).convert("RGB"))  # a grey one


def test_drawings_are_inverted(tmp_path: Path) -> None:
    raw = made.make("omniglot", tmp_path)
    folder = convert("omniglot", raw, root=tmp_path)
    files = sorted((raw / "images_evaluation" / "Oriya" / "character02").iterdir())
    assert pictures(folder, 6) == [jpeg(ImageOps.invert(Image.open(file).convert("RGB"))) for file in files]


def test_omniglot_in_zip_files(tmp_path: Path) -> None:
    raw = made.make("omniglot", tmp_path)
    expected = convert("omniglot", raw, tmp_path / "a", root=tmp_path)
    packed = tmp_path / "omniglot"
    packed.mkdir()
    for part in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(packed / f"{part}.zip", "w") as archive:
            for file in sorted((raw / part).rglob("*.png"), reverse=True):
                archive.write(file, str(file.relative_to(raw)))
            archive.writestr(f"{part}/._hidden/x/._0001_01.png", b"")
    found = convert("omniglot", to=tmp_path / "b", root=tmp_path)  # the folder that fetch fills
    for number in range(7):
        assert pictures(found, number) == pictures(expected, number)


def test_aircraft_are_cut_to_their_boxes(tmp_path: Path) -> None:
    raw = made.make("aircraft", tmp_path)
    folder = convert("aircraft", raw, root=tmp_path)
    names = sorted(f"2{k:06}" for k in range(1, made.EACH + 1))
    cut = [Image.open(raw / "data" / "images" / f"{name}.jpg") for name in names]
    boxes = [(2, 3, 12 + made.EACH - int(name[1:]), 15) for name in names]
    assert pictures(folder, 2) == [jpeg(one.crop(box)) for one, box in zip(cut, boxes, strict=True)]


def test_objects_of_coco_are_cut_out_with_what_is_around(tmp_path: Path) -> None:
    raw = made.make("mscoco", tmp_path)
    folder = convert("mscoco", raw, root=tmp_path)
    # The box (2.3, 3.5) + (10, 8.25), 1.2 times as large: (1.3, 2.675) + (12, 9.9); from pixels' middles to corners.
    first = Image.open(raw / "train2017" / f"{0:012}.jpg").convert("RGB").crop((1, 2, 14, 13))
    assert pictures(folder, 0)[0] == jpeg(first)
    assert first.size == (13, 11)
    assert Image.open(io.BytesIO(pictures(folder, 3)[0])).size == (13, 11)


def test_a_box_that_leaves_the_picture_is_cut_off(tmp_path: Path) -> None:
    raw = made.make("mscoco", tmp_path)
    path = raw / "annotations" / "instances_train2017.json"
    notes = json.loads(path.read_text())
    notes["annotations"][0]["bbox"] = [25.0, 15.0, 20.0, 20.0]
    path.write_text(json.dumps(notes))
    folder = convert("mscoco", raw, root=tmp_path)
    assert Image.open(io.BytesIO(pictures(folder, 0)[0])).size == (30 - 22, 20 - 12)
    notes["annotations"][0]["bbox"] = [40.0, 15.0, 2.0, 2.0]
    path.write_text(json.dumps(notes))
    with pytest.raises(DataError, match=r"Cannot cut .*000000000000\.jpg: its box from .* is empty"):
        convert("mscoco", raw, tmp_path / "b", root=tmp_path)


def test_drawings_of_quickdraw(tmp_path: Path) -> None:
    raw = made.make("quickdraw", tmp_path)
    np.save(raw / "van.npy", np.eye(28, dtype=bool).reshape(1, 784).repeat(made.EACH, 0))
    folder = convert("quickdraw", raw, root=tmp_path)
    row = np.load(raw / "horse.npy")[1].reshape(28, 28)
    assert pictures(folder, 2)[1] == jpeg(Image.fromarray(row).convert("RGB"))
    van = Image.fromarray(np.eye(28, dtype=np.uint8) * 255).convert("RGB")
    assert pictures(folder, 3) == [jpeg(van)] * made.EACH


def test_pictures_that_others_have_are_left_out(tmp_path: Path) -> None:
    raw = made.make("ilsvrc_2012", tmp_path)
    folder = convert("ilsvrc_2012", raw, root=tmp_path)
    names = sorted(path.name for path in (raw / "n00000001").iterdir())
    assert len(names) == made.EACH + 1
    assert pictures(folder, 0) == [(raw / "n00000001" / name).read_bytes() for name in names if "_99." not in name]


def test_it_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = made.make("dtd", tmp_path)
    write, written = write_records, list[str]()

    def counting(path: Path, contents: object) -> int:
        written.append(path.name)
        return write(path, contents)  # type: ignore[arg-type]

    def failing(path: Path, contents: object) -> int:
        if len(written) == 3:
            raise KeyboardInterrupt
        return counting(path, contents)

    monkeypatch.setattr(converting, "write_records", failing)
    with pytest.raises(KeyboardInterrupt):
        convert("dtd", raw, root=tmp_path)
    folder = tmp_path / "meta-dataset" / "dtd"
    assert not (folder / SPEC).exists()
    write_records(folder / "1.tfrecords", [b"of another edition"])
    (folder / "2.tfrecords").write_bytes((folder / "2.tfrecords").read_bytes()[:-1])
    monkeypatch.setattr(converting, "write_records", counting)
    convert("dtd", raw, root=tmp_path)
    assert written == [f"{n}.tfrecords" for n in (0, 1, 2, 1, 2, 3, 4, 5, 6)]
    with pytest.raises(
        InputError, match=r"nothing to convert: .*dtd holds the records of dtd already\. Remove the folder"
    ):
        convert("dtd", raw, root=tmp_path)


def test_two_conversions_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of one that was stopped have as many records, and would be taken for those of another."""
    first, second = (made.make("dtd", tmp_path / one) for one in "ab")
    target = tmp_path / "records"

    def stopped(path: Path, contents: object) -> int:
        if path.name == "3.tfrecords":
            raise KeyboardInterrupt
        return write_records(path, contents)  # type: ignore[arg-type]

    with monkeypatch.context() as while_stopped, pytest.raises(KeyboardInterrupt):
        while_stopped.setattr(converting, "write_records", stopped)
        convert("dtd", first, target, root=tmp_path / "a")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    said = r"Cannot convert dtd from .*b.* into .*records: another conversion was begun there and is running or was st"
    with pytest.raises(
        InputError, match=said + r"opped \(dtd from .*a.*\)\. Say another folder \(--to FOLDER\), or remove"
    ):
        convert("dtd", second, target, root=tmp_path / "b")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    (target / "conversion.json").write_text("{")
    with pytest.raises(InputError, match=r"was stopped \(conversion\.json does not say of what\)\. Say another"):
        convert("dtd", first, target, root=tmp_path / "a")
    (target / "conversion.json").unlink()
    with pytest.raises(InputError, match=r"such as \d\.tfrecords, of which nothing says what they are\. Say another"):
        convert("dtd", first, target, root=tmp_path / "a")
    (target / "conversion.json").write_bytes(before["conversion.json"])
    convert("dtd", first, target, root=tmp_path / "a")
    assert sorted(path.name for path in target.iterdir()) == [*(f"{n}.tfrecords" for n in range(7)), SPEC]


def test_of_two_conversions_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (made.make("dtd", tmp_path / one) for one in "ab")
    said: list[str] = []

    def meanwhile(path: Path, contents: object) -> int:
        if not said:
            with pytest.raises(InputError, match="another conversion was begun there and is running") as refused:
                convert("dtd", second, tmp_path / "records", root=tmp_path / "b")
            said.append(str(refused.value))
        return write_records(path, contents)  # type: ignore[arg-type]

    monkeypatch.setattr(converting, "write_records", meanwhile)
    folder = convert("dtd", first, tmp_path / "records", root=tmp_path / "a")
    assert said and pictures(folder, 6) == pictures(convert("dtd", first, tmp_path / "c", root=tmp_path / "a"), 6)


def test_files_that_were_lost_are_made_again(tmp_path: Path) -> None:
    """What a missing file's error advises; a whole folder of another data set is named as what it is."""
    raw, others = made.make("dtd", tmp_path), made.make("cu_birds", tmp_path)
    folder = convert("dtd", raw, root=tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "3.tfrecords").unlink()
    assert convert("dtd", raw, root=tmp_path) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(
        InputError, match=r"Cannot convert cu_birds into .*dtd: it holds the records of dtd\. Say another"
    ):
        convert("cu_birds", others, folder, root=tmp_path)


def test_a_file_where_records_should_lie(tmp_path: Path) -> None:
    raw = made.make("dtd", tmp_path)
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"Cannot convert dtd into .*file: it is a file, not a folder\."):
        convert("dtd", raw, tmp_path / "file", root=tmp_path)
    with pytest.raises(StorageError, match=r"Cannot write .*conversion\.json"):
        convert("dtd", raw, tmp_path / "file" / "below", root=tmp_path)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_what_a_killed_conversion_left_is_removed(tmp_path: Path) -> None:
    raw = made.make("dtd", tmp_path)
    made.put(tmp_path / "meta-dataset" / "dtd" / ".3.tfrecords.00ff.tmp", b"half a file")
    folder = convert("dtd", raw, root=tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [*(f"{n}.tfrecords" for n in range(7)), SPEC]


def test_few_files_are_open_at_a_time(tmp_path: Path) -> None:
    """QuickDraw has 345 files, and some systems allow 256 open ones."""
    listed = Path("/proc/self/fd")
    if not listed.is_dir():
        pytest.skip("needs a list of open files, as Linux has it")
    raw = made.make("quickdraw", tmp_path)
    before, most = len(list(listed.iterdir())), 0

    def watch(done: int, of: int) -> None:
        nonlocal most
        most = max(most, len(list(listed.iterdir())))

    convert("quickdraw", raw, root=tmp_path, progress=watch)
    assert most <= before + 2


def test_a_drawing_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = made.make("omniglot", tmp_path)
    read = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path.name == "0002_01.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    with pytest.raises(DataError, match=r"Cannot read .*0002_01\.png: Permission denied\. Copy the file there"):
        convert("omniglot", raw, root=tmp_path)


def test_what_was_not_said(tmp_path: Path) -> None:
    made.make("dtd", tmp_path)
    with pytest.raises(InputError, match="Cannot convert dtd: it is not said where its published files lie"):
        convert("dtd", root=tmp_path)


def remove(*parts: str) -> Callable[[Path], object]:
    def change(raw: Path) -> None:
        path = raw.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def write(text: str | bytes, *parts: str) -> Callable[[Path], object]:
    return lambda raw: made.put(raw.joinpath(*parts), text)


def change(name: str, part: str, key: str, value: Any) -> Callable[[Path], object]:
    """Of the first entry in a list of a JSON file."""

    def changed(raw: Path) -> None:
        (path,) = raw.rglob(name)
        notes = json.loads(path.read_text())
        notes[part][0][key] = value
        path.write_text(json.dumps(notes))

    return changed


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("dtd", remove("images"), r"/images cannot be read \(No such file"),
        ("dtd", remove("images", "grid"), "lacks 1 of 7 folders of classes, such as 'grid'"),
        (
            "dtd",
            write("", "images", "new", "a.jpg"),
            "holds 'new', which is none of the 7 published folders of classes",
        ),
        (
            "dtd",
            remove("images", "grid", "grid_0001.jpg"),
            r"it lacks some pictures of 'grid' \(such as .*grid_0000\.jpg\), 3 instead of 4 published",
        ),
        (
            "dtd",
            write("", "images", "grid", "a.jpg"),
            r"too many pictures of 'grid' \(.*, 5 instead of 4 published",
        ),
        (
            "dtd",
            write("", "images", "grid", "Thumbs.db"),
            r"Cannot convert .*Thumbs\.db: it is no picture of the class",
        ),
        ("dtd", write(b"\xff\xd8", "images", "grid", "grid_0001.jpg"), r"Cannot read .*grid_0001\.jpg"),
        ("dtd", write("", "images", "grid", "grid_0001.jpg"), r"grid_0001\.jpg: the file is empty"),
        ("cu_birds", remove("classes.txt"), r"Cannot read .*classes\.txt: No such file"),
        ("cu_birds", write("1 a\n", "classes.txt"), r"classes\.txt: it lacks 7 of 7 birds"),
        ("cu_birds", write(b"\xff\xfe\xff", "classes.txt"), r"classes\.txt: it is no text"),
        ("omniglot", remove("images_evaluation"), r"neither the folder images_evaluation nor images_evaluation\.zip"),
        ("omniglot", remove("images_background", "Greek"), "lacks 2 of 5 characters, such as 'Greek-character01'"),
        (
            "traffic_sign",
            remove("Final_Training", "Images", "00003"),
            "lacks 1 of 7 folders of classes, such as '00003'",
        ),
        ("ilsvrc_2012", write("n1 n2\n", "wordnet.is_a.txt"), "nothing leads from n1 down to n00000001"),
        ("ilsvrc_2012", remove("n00000004"), "lacks 1 of 7 folders of classes, such as 'n00000004'"),
        (
            "aircraft",
            write("a 1 2 3\n", "data", "images_box.txt"),
            "the line 'a 1 2 3' is not a name and four whole numbers",
        ),
        ("aircraft", write("a 1 2 3 4\n", "data", "images_box.txt"), r"it has no box for 0000001\.jpg"),
        (
            "aircraft",
            write("a B\n", "data", "images_variant_test.txt"),
            "holds 'B', which is none of the 7 published var",
        ),
        (
            "aircraft",
            remove("data", "images", "0000001.jpg"),
            r"Cannot read .*0000001\.jpg: No such file.*Copy the file",
        ),
        ("vgg_flower", remove("imagelabels.mat"), r"Cannot read .*imagelabels\.mat: No such file"),
        ("vgg_flower", write("x", "imagelabels.mat"), "it is no MATLAB file with 'labels'"),
        ("vgg_flower", remove("jpg", "image_00003.jpg"), r"Cannot read .*image_00003\.jpg: No such file"),
        ("fungi", remove("val.json"), r"Cannot read .*val\.json: No such file"),
        ("fungi", write("{", "val.json"), r"val\.json: it is not JSON"),
        (
            "fungi",
            remove("val.json"),
            r"^Cannot read [^(]*val\.json: No such file or directory\. Copy the file there\.$",
        ),
        ("fungi", write("{}", "val.json"), r"val\.json: it has no list 'images'"),
        (
            "fungi",
            write('{"images": [], "annotations": [], "categories": []}', "val.json"),
            "its categories are not those",
        ),
        ("mscoco", remove("annotations"), r"Cannot read .*instances_train2017\.json: No such file"),
        ("mscoco", remove("train2017", f"{2:012}.jpg"), r"Cannot read .*000000000002\.jpg: No such file"),
        (
            "mscoco",
            write('{"annotations": [], "categories": [1]}', "instances_train2017.json"),
            "an entry has no 'id' of type int: 1",
        ),
        *(
            ("mscoco", change("instances_train2017.json", "annotations", key, value), sentence)
            for key, value, sentence in (
                ("bbox", [1, 2, 3], "annotation of the image 0 has no category or no box of four numbers"),
                ("bbox", [1, 2, "x", 4], "annotation of the image 0 has no category or no box of four numbers"),
                ("bbox", None, "an entry has no 'bbox' of type list"),
                ("category_id", 999, "annotation of the image 0 has no category or no box of four numbers"),
                ("category_id", ["dog"], "an entry has no 'category_id' of type int"),
            )
        ),
        ("fungi", change("val.json", "annotations", "category_id", "x"), "an entry has no 'category_id' of type int"),
        ("fungi", change("val.json", "annotations", "image_id", 0), "the picture with the id 0 stands there twice"),
        ("fungi", change("val.json", "images", "file_name", 7), "an entry has no 'file_name' of type str"),
        ("quickdraw", remove("swan.npy"), r"lacks 1 of 7 classes \(\.npy\), such as 'swan'"),
        ("quickdraw", write("x", "swan.npy"), r"Cannot read .*swan\.npy"),
        ("quickdraw", write("x", "other.npy"), "holds 'other', which is none of the 7"),
    ],
)
def test_what_is_missing_or_too_much(
    tmp_path: Path, name: str, damage: Callable[[Path], object], sentence: str
) -> None:
    raw = made.make(name, tmp_path)
    damage(raw)
    with pytest.raises(DataError, match=sentence) as caught:
        convert(name, raw, root=tmp_path)
    assert str(raw) in str(caught.value)
    assert not (tmp_path / "meta-dataset" / name / SPEC).exists()


def test_an_array_of_another_shape(tmp_path: Path) -> None:
    raw = made.make("quickdraw", tmp_path)
    np.save(raw / "swan.npy", np.zeros((4, 10), dtype=np.uint8))
    with pytest.raises(DataError, match=r"swan\.npy: expected uint8 \[n, 784\], .* found uint8 \[4, 10\]"):
        convert("quickdraw", raw, root=tmp_path)


def test_another_edition_can_be_converted_as_it_is(tmp_path: Path) -> None:
    raw = made.make("dtd", tmp_path)
    remove("images", "grid", "grid_0001.jpg")(raw)
    folder = convert("dtd", raw, root=tmp_path, counts="found")
    assert spec_of(folder).images == (4, 4, 4, 3, 4, 4, 4)
    for k in (0, 2):
        remove("images", "grid", f"grid_000{k}.jpg")(raw)
    with pytest.raises(
        DataError, match=r"Cannot convert .*dtd: its class 'grid' has 1 picture, and a task needs one to"
    ):
        convert("dtd", raw, tmp_path / "b", root=tmp_path, counts="found")
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_the_real_omniglot(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    folder = convert("omniglot", to=tmp_path / "omniglot", root=data_root)
    listed = json.loads((data_root / LISTS / "dataset_specs" / "omniglot_dataset_spec.json").read_text())
    assert json.loads((folder / SPEC).read_text()) | {"path": ""} == listed | {"path": ""}
    assert sum(len(pictures(folder, number)) for number in range(1623)) == 32460
