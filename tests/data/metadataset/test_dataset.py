"""Records as a store, the data set ``meta-dataset``, and its tasks."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.data.leaks import leaks
from quickstudy.data.metadataset import stores
from quickstudy.data.metadataset.convert import RECORDS, convert
from quickstudy.data.metadataset.dataset import PROTOCOLS, MetaDataset, rules_of
from quickstudy.data.metadataset.episodes import Member, MetaDatasetTasks
from quickstudy.data.metadataset.examples import write_example
from quickstudy.data.metadataset.pixels import of_record, stretched
from quickstudy.data.metadataset.records import Maps, write_records
from quickstudy.data.metadataset.sampling import Pool, Rules, Sampler
from quickstudy.data.metadataset.specs import COUNTS, SPEC
from quickstudy.data.metadataset.stores import RecordFolder
from quickstudy.data.store import ArrayStore
from quickstudy.episode import Classes, Episode
from quickstudy.errors import DataError, InputError, UnknownName
from tests.data.metadataset import made

NAMES = ("dtd", "omniglot", "ilsvrc_2012", "traffic_sign")
SIZES: dict[str, Any] = {"way": (2, 50), "shot": (1, 100), "query": (1, 10)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Path]:
    """A data root with the records of four small data sets."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            patch.setitem(COUNTS, name, (0, 0, 7) if name == "traffic_sign" else made.PARTS)
            convert(name, made.make(name, folder), root=folder)
        yield folder


def test_the_stretching_of_the_official_reader() -> None:
    """Corners stay corners, and what lies between is linear, in both directions."""
    plane = np.add.outer(10 * np.arange(5), 3 * np.arange(9))[:, :, None].astype(np.uint8)
    found = stretched(plane, 17)
    assert found.shape == (17, 17, 1) and found.dtype == np.float32
    expected = np.add.outer(np.linspace(0, 40, 17), np.linspace(0, 24, 17))
    assert np.abs(found[:, :, 0] - expected).max() < 1e-4
    small = stretched(np.random.default_rng(0).integers(0, 256, (200, 90, 3), dtype=np.uint8), 3)
    assert small.shape == (3, 3, 3)


def test_it_is_not_smoothed_first() -> None:
    """Of a fine chequered pattern every fourth pixel is taken, not their mean."""
    pixels = (np.indices((9, 9)).sum(0) % 2 * 255).astype(np.uint8)[:, :, None]
    assert np.unique(stretched(pixels, 3)).tolist() == [0.0]
    assert (stretched(pixels, 9) == pixels).all()
    assert stretched(pixels[:1, :1], 2).tolist() == [[[0.0], [0.0]], [[0.0], [0.0]]]


def test_a_picture_in_a_record(tmp_path: Path) -> None:
    content = made.file(3)
    record = made.framed(write_example({"image": [content], "label": [1]}))
    found = of_record(record, "it", 20)
    assert found.shape == (3, 20, 20) and found.dtype == np.uint8
    truth = np.asarray(Image.fromarray(made.pixels(3)).resize((20, 20), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(found.astype(int) - truth).mean() < 12
    with pytest.raises(DataError, match="Cannot read the picture of it: it is no picture"):
        of_record(made.framed(write_example({"image": [b"not a picture at all"], "label": [1]})), "it", 20)
    with pytest.raises(DataError, match="Cannot use it: its Example has no feature 'image'"):
        of_record(made.framed(b""), "it", 20)


def test_a_folder_as_a_store(root: Path) -> None:
    folder = RecordFolder(root / "meta-dataset" / "dtd")
    store = folder.store(12)
    assert list(store.classes) == [f"{n:05} {name}" for n, name in enumerate(folder.spec.classes)]
    assert store.sizes.tolist() == [made.EACH] * 7 and store.shape == (3, 12, 12)
    rows = store.look_up()(np.array([5, 0, 5]))
    assert (rows[0] == rows[2]).all() and (rows[0] != rows[1]).any()
    assert store.index.divided()["test"] == ["00005 matted", "00006 woven"]
    assert folder.store(12).hash == store.hash != folder.store(13).hash


def test_all_stores_together_keep_few_files_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may open some hundreds; eight data sets in three roles would have thousands."""
    few = Maps(most=3)
    monkeypatch.setattr(stores, "maps", few)
    for name in NAMES:
        store = RecordFolder(root / "meta-dataset" / name).store(12)
        store.look_up()(np.arange(7) * made.EACH)
    assert len(few._open) == 3 and all("traffic_sign" in path for path, _ in few._open)


@pytest.fixture
def dtd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    monkeypatch.setitem(COUNTS, "dtd", made.PARTS)
    return convert("dtd", made.make("dtd", tmp_path), root=tmp_path)


def example(label: int, picture: bytes = b"") -> bytes:
    return write_example({"image": [picture or made.file(0)], "label": [label]})


def test_records_that_are_not_what_they_should_be(dtd: Path) -> None:
    whole = (dtd / "3.tfrecords").read_bytes()

    def refused(sentence: str) -> None:
        with pytest.raises(DataError, match=sentence):
            RecordFolder(dtd).store(12)

    (dtd / "3.tfrecords").unlink()
    (dtd / "5.tfrecords").rename(dtd / "9.tfrecords")
    refused(r"the file .*3\.tfrecords of its class 'grid' is missing .* Neither can be used: 5\.tfrecords")
    (dtd / "3.tfrecords").write_bytes(whole)
    (dtd / "9.tfrecords").rename(dtd / "5.tfrecords")
    (dtd / "7.tfrecords").write_bytes(whole)
    refused(r"7\.tfrecords belongs to none of the 7 classes")
    (dtd / "7.tfrecords").unlink()
    (dtd / "3.tfrecords").write_bytes(whole[:-1])
    (dtd / "4.tfrecords").write_bytes(whole[:-9])
    refused(r"record 3 of .*3\.tfrecords, at byte \d+: .*cut off after .* Neither can be used: 4\.tfrecords")
    write_records(dtd / "3.tfrecords", [example(3)] * 3)
    (dtd / "4.tfrecords").unlink()
    write_records(dtd / "4.tfrecords", [example(4, made.file(n)) for n in range(4)])
    refused(r"3\.tfrecords: it has 3 records, and the specification counts 4 pictures of the class 'grid'")
    write_records(dtd / "3.tfrecords", [example(3)] * 3 + [example(5)])
    refused(r"record 3 of .*3\.tfrecords: its label is 5, and the file is of class 3")
    write_records(dtd / "3.tfrecords", [example(3)] * 3 + [b"no example"])
    refused(r"record 3 of .*3\.tfrecords: it holds no tf\.train\.Example")
    (dtd / "3.tfrecords").write_bytes(whole)
    RecordFolder(dtd).store(12)


def test_a_record_that_is_damaged_later_is_named_when_it_is_drawn(dtd: Path) -> None:
    store = RecordFolder(dtd).store(12)
    path = dtd / "0.tfrecords"
    content, times = bytearray(path.read_bytes()), path.stat()
    content[40] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DataError, match=r"record 0 of .*0\.tfrecords: the checksum of its content is wrong"):
        store.look_up()(np.array([0]))


def checked(episode: Episode, ways: tuple[int, int]) -> None:
    """Each class of each task has a support example, all have as many queries, and padding is empty."""
    assert episode.classes is not None and isinstance(episode.support.target, Classes)
    for task in range(len(episode.classes)):
        way = int(episode.support.target.way[task])
        classes = [n for n in episode.classes[task].tolist() if n >= 0]
        assert ways[0] <= way <= ways[1] and len(set(classes)) == way
        for part in (episode.support, episode.query):
            assert part.y is not None and isinstance(part.x, torch.Tensor)
            mask = part.real[task]
            counts = torch.bincount(part.y[task][mask], minlength=way)
            assert len(counts) == way and counts.min() >= 1 and (part.x[task][~mask] == 0).all()
        assert counts.min() == counts.max()


def test_tasks_of_several_data_sets(root: Path) -> None:
    data = MetaDataset(root, datasets=("dtd", "omniglot", "ilsvrc_2012"), size=12)
    source = data.tasks("train", seed=0, **SIZES)
    episode = source.episodes(range(40))
    checked(episode, (2, 3))
    assert source.shape.example == (3, 12, 12) and source.shape.classes == 9 and source.shape.outputs == 3
    assert episode.classes is not None
    sets = [sorted({n // 3 for n in row if n >= 0}) for row in episode.classes.tolist()]
    assert all(len(of) == 1 for of in sets) and {of[0] for of in sets} == {0, 1, 2}
    alone = MetaDataset(root, datasets=("omniglot",), size=12).tasks("train", seed=0, **SIZES)
    member, one = source.composition(3)
    assert member.name in ("dtd", "omniglot", "ilsvrc_2012") and len(one.classes) in (2, 3)
    # Whatever others there are, Omniglot's task of a number is the same.
    number = next(n for n in range(40) if source.composition(n)[0].name == "omniglot")
    assert (source.composition(number)[1].classes == alone.composition(number)[1].classes).all()


def test_roles_share_neither_classes_nor_pictures_and_a_planted_one_is_found(root: Path) -> None:
    data = MetaDataset(root, datasets=("dtd", "omniglot"), test="dtd", size=12)
    sources = {role: data.tasks(role, seed=0, **SIZES) for role in data.splits}
    assert leaks(sources) == []
    # The files of both were made alike, so that a class for training of one is one for training of the other.
    other = MetaDataset(root, datasets=("ilsvrc_2012",), size=12).tasks("train", seed=0, **SIZES)
    (said,) = leaks({"train": sources["train"], "test": other})
    assert said.startswith("train and test share 12 examples, such as example 0 of '00000 waffled' and example 0 of")


def test_a_task_hangs_on_its_number_alone(root: Path) -> None:
    source = MetaDataset(root, datasets=("dtd", "omniglot"), size=12).tasks("train", seed=0, **SIZES)
    whole = source.episodes(np.array([4, 9, 2]))
    for place, number in enumerate((4, 9, 2)):
        one = source.episodes(range(number, number + 1))
        for part, of in ((whole.support, one.support), (whole.query, one.query)):
            assert isinstance(part.x, torch.Tensor) and isinstance(of.x, torch.Tensor)
            assert (part.x[place, : of.x.shape[1]] == of.x[0]).all()
            assert part.mask is None or part.mask[place].sum() == of.x.shape[1]
    other = MetaDataset(root, datasets=("dtd", "omniglot"), size=12).tasks("train", seed=1, **SIZES)
    assert [other.composition(n)[1].triples() for n in range(9)] != [
        source.composition(n)[1].triples() for n in range(9)
    ]


def test_support_and_query_never_share_a_picture(root: Path) -> None:
    source = MetaDataset(root, datasets=("dtd",), size=12).tasks("train", seed=0, **SIZES)
    for number in range(20):
        drawn = source._draw(number, 0)
        both = np.concatenate([drawn.support, drawn.query])
        assert len(set(both.tolist())) == len(both)


def test_roles(root: Path) -> None:
    data = MetaDataset(root, protocol="all", datasets=("dtd", "ilsvrc_2012"), test="traffic_sign", size=12)
    assert (data.trained, data.validated, data.tested) == (("dtd", "ilsvrc_2012"), ("ilsvrc_2012",), "traffic_sign")
    validation = data.tasks("validation", seed=0, **SIZES)
    assert validation.settings["data-sets"] == ["ilsvrc_2012"] and validation.shape.classes == 2
    test = data.tasks("test", seed=0, **SIZES)
    assert test.settings["data-sets"] == ["traffic_sign"] and test.shape.classes == 7
    assert test.names_of(test.episodes(range(1)))[0].startswith("traffic_sign/0000")
    divided = data.divided
    assert {role: len(names) for role, names in divided.items()} == {"train": 6, "validation": 2, "test": 7}
    assert test.origin is not None and list(test.origin.names) == divided["test"]
    assert MetaDataset(root, datasets=("dtd",)).validated == ("dtd",)
    assert PROTOCOLS == {
        "imagenet": ("ilsvrc_2012",),
        "all": ("ilsvrc_2012", "omniglot", "aircraft", "cu_birds", "dtd", "quickdraw", "fungi", "vgg_flower"),
    }


def test_batches_pass_over_all_pictures(root: Path) -> None:
    source = MetaDataset(root, datasets=("dtd", "omniglot"), size=12).tasks("train", seed=0, **SIZES)
    batches = source.batches(12)
    drawn = [batches.batch(step) for step in range(2)]
    labels = np.concatenate([np.asarray(one.y)[0] for one in drawn])
    assert np.bincount(labels).tolist() == [made.EACH] * 6
    rows = np.concatenate([np.asarray(one.x)[0] for one in drawn])
    assert len(np.unique(rows.reshape(len(rows), -1), axis=0)) == 24
    assert batches.shape.outputs == 6 and batches.settings["batch"] == 12
    first = source.episodes(range(1)).support
    assert isinstance(first.x, torch.Tensor)
    assert any((row == np.asarray(first.x[0, 0])).all() for row in rows)


def test_what_is_missing_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"records of ilsvrc_2012 that .*/train needs: .* has none at all\. Convert them"
    ):
        MetaDataset(tmp_path).tasks("train", seed=0, **SIZES)
    with pytest.raises(
        DataError, match=r"records of aircraft, cu_birds, .* has those of ilsvrc_2012, omniglot, dtd, tra"
    ):
        MetaDataset(root, protocol="all").tasks("train", seed=0, **SIZES)
    (tmp_path / RECORDS / "ilsvrc_2012").mkdir(parents=True)
    (tmp_path / RECORDS / "ilsvrc_2012" / "0.tfrecords").write_bytes(b"")
    with pytest.raises(DataError, match=r"ilsvrc_2012: it has no dataset_spec\.json, which says what its records are"):
        MetaDataset(tmp_path).tasks("train", seed=0, **SIZES)
    (tmp_path / RECORDS / "ilsvrc_2012" / "dataset_spec.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"its specification is a pickle .* Copy the published one there"):
        MetaDataset(tmp_path).tasks("train", seed=0, **SIZES)
    with pytest.raises(UnknownName, match="no data set of Meta-Dataset called 'birds'"):
        MetaDataset(root, datasets=("birds",))
    for twice in ({"datasets": ("dtd", "omniglot", "dtd")}, {"validate": ("dtd", "dtd")}):
        with pytest.raises(InputError, match=r"Cannot take dtd twice: .* Name each of them once"):
            MetaDataset(root, **twice)
    with pytest.raises(UnknownName, match="no protocol of Meta-Dataset called 'some'"):
        MetaDataset(root, protocol="some")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="no split of meta-dataset called 'train\\+validation'"):
        MetaDataset(root).tasks("train+validation", seed=0, **SIZES)
    with pytest.raises(InputError, match="size = 0: expected a whole number from 1 to 1024"):
        MetaDataset(root, size=0)
    with pytest.raises(InputError, match="traffic_sign/train: it has no class there"):
        MetaDataset(root, datasets=("traffic_sign",)).tasks("train", seed=0, **SIZES)
    with pytest.raises(InputError, match="at least 5 classes from dtd/train: it has only 3"):
        MetaDataset(root, datasets=("dtd",)).tasks("train", seed=0, shot=(1, 100), query=(1, 10))


def test_records_of_another_data_set_or_another_division_are_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "meta-dataset" / "dtd", tmp_path / "omniglot")
    said = (
        r"omniglot/dataset_spec\.json: it lists dtd with 3, 2, 2 classes .*; omniglot was published with 3, 2, 2\. Move"
    )
    with pytest.raises(DataError, match=said):
        MetaDataset(root, records=tmp_path, datasets=("omniglot",)).tasks("train", seed=0, **SIZES)
    (tmp_path / "omniglot").rename(tmp_path / "dtd")
    spec = json.loads((tmp_path / "dtd" / SPEC).read_text())
    spec["classes_per_split"] = {"TRAIN": 5, "VALID": 0, "TEST": 2}
    (tmp_path / "dtd" / SPEC).write_text(json.dumps(spec))
    with pytest.raises(DataError, match=r"lists dtd with 5, 0, 2 .* published with 3, 2, 2\. .* convert dtd again"):
        MetaDataset(root, records=tmp_path, datasets=("dtd",)).tasks("train", seed=0, **SIZES)


def test_sizes_of_a_recipe() -> None:
    assert rules_of(None, (1, 100), (1, 10)) == Rules() == rules_of((5, 50), (1, 100), (1, 10))
    fixed = rules_of(5, 1, 15)
    assert (fixed.ways, fixed.shots, fixed.queries) == ((5, 5), 1, 15)
    # Whatever makes other tasks is said, so that nobody takes them for the same.
    said = {"way": [5, 50], "shot": [1, 100], "query": [1, 10], "hierarchy": True}
    assert Rules().settings == said and rules_of(None, (1, 100), (1, 10), least=20).settings == said | {"least": 20}
    assert Rules(support=200, ignored=0.5).settings == said | {"support": 200, "ignored": 0.5}
    with pytest.raises(InputError, match=r"with shot = \[2, 5\]: how many examples a class gets follows from its size"):
        rules_of(5, (2, 5), 15)


def test_data_sets_of_several_shapes() -> None:
    def member(name: str, size: int) -> Member:
        store = ArrayStore.from_classes({f"{n}": np.zeros((4, size, size), dtype=np.uint8) for n in range(5)})
        return Member(name, Sampler(Pool(name, store.sizes)), store, np.arange(5))

    with pytest.raises(
        InputError, match=r"a have the shape \[1, 8, 8\], and those of b \[1, 9, 9\]\. Give them one size"
    ):
        MetaDatasetTasks([member("a", 8), member("b", 9)], data="x", split="train", seed=0)
    with pytest.raises(InputError, match="no data set was named"):
        MetaDatasetTasks([], data="x", split="train", seed=0)
    source = MetaDatasetTasks([member("a", 8)], data="x", split="train", seed=0)
    assert source.origin.names == tuple(f"a/{n}" for n in range(5)) and source.ahead == 0


def test_the_spec_of_official_records_is_enough(dtd: Path) -> None:
    """Nothing of ours is needed beside what the official conversion writes."""
    assert sorted(path.name for path in dtd.iterdir()) == [*(f"{n}.tfrecords" for n in range(7)), SPEC]
    assert json.loads((dtd / SPEC).read_text())["__class__"] == "DatasetSpecification"
