"""TFRecord files and their checksums, against known answers and TensorBoard's reader."""

import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickstudy.data.metadataset import records
from quickstudy.data.metadataset.crc import checksums, crc32c, masked
from quickstudy.data.metadataset.records import (
    Maps,
    check_records,
    content_of,
    read_records,
    record_starts,
    write_records,
)
from quickstudy.errors import DataError

# RFC 3720, appendix B.4, and the usual check value of the polynomial.
KNOWN = {
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(range(31, -1, -1)): 0x113FDB5C,
    b"123456789": 0xE3069283,
    b"": 0,
}


def test_known_checksums() -> None:
    assert checksums(list(KNOWN)).tolist() == list(KNOWN.values())
    assert [crc32c(piece) for piece in KNOWN] == list(KNOWN.values())


@given(st.lists(st.binary(max_size=400), max_size=12))
def test_many_at_once_are_as_each_alone(pieces: list[bytes]) -> None:
    assert checksums(pieces).tolist() == [crc32c(piece) for piece in pieces]


def test_long_pieces() -> None:
    long = bytes(range(256)) * 700
    assert checksums([long, long[:-1], long[3:]]).tolist() == [crc32c(long), crc32c(long[:-1]), crc32c(long[3:])]


def test_a_file_is_what_tensorflow_writes(tmp_path: Path) -> None:
    """The record that TensorFlow's own test of its writer has: "foo"."""
    path = tmp_path / "a.tfrecords"
    assert write_records(path, [b"foo"]) == 1
    assert path.read_bytes() == struct.pack("<Q", 3) + struct.pack(
        "<I", masked(crc32c(struct.pack("<Q", 3)))
    ) + b"foo" + (struct.pack("<I", masked(crc32c(b"foo"))))


def test_as_tensorboard_writes_and_reads_them(tmp_path: Path) -> None:
    stub = pytest.importorskip("tensorboard.compat.tensorflow_stub.pywrap_tensorflow")
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer")
    contents = [b"", b"a", b"some longer content" * 99]
    path, other = tmp_path / "a.tfrecords", tmp_path / "b.tfrecords"
    write_records(path, contents)
    with open(other, "wb") as file:
        theirs = writer.RecordWriter(file)
        for content in contents:
            theirs.write(content)
    assert path.read_bytes() == other.read_bytes()
    reader = stub.PyRecordReader_New(str(path))
    read = []
    for _ in contents:
        reader.GetNext()
        read.append(reader.record())
    assert read == contents


@given(st.lists(st.binary(max_size=60), max_size=9))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("records") / "a.tfrecords"
    assert write_records(path, contents) == len(contents)
    if not contents:
        assert path.read_bytes() == b""
        return
    assert list(read_records(path)) == contents
    starts, whole = record_starts(path).tolist(), path.read_bytes()
    assert [content_of(whole[a:b], "it") for a, b in pairwise(starts)] == contents


def test_pieces_that_are_looked_at_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_AT_ONCE", 100)
    contents = [bytes([n]) * (n * 7 % 150) for n in range(40)]
    write_records(tmp_path / "a", contents)
    assert list(read_records(tmp_path / "a")) == contents and check_records(tmp_path / "a") == 40


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("records") / "a.tfrecords"
    write_records(path, [b"first", b"second one", b""])
    return path.read_bytes()


@given(data=st.data())
def test_any_changed_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, three: bytes, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(three) - 1))
    other = data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("records") / "a.tfrecords"
    path.write_bytes(three[:place] + bytes([three[place] ^ other]) + three[place + 1 :])
    with pytest.raises(DataError, match=r"a\.tfrecords.*(checksum|cut off)"):
        list(read_records(path))


@given(data=st.data())
def test_any_end_within_a_record_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, three: bytes, data: st.DataObject
) -> None:
    boundaries = (0, 21, 47, 63)
    end = data.draw(st.integers(1, len(three) - 1).filter(lambda n: n not in boundaries))
    path = tmp_path_factory.mktemp("records") / "a.tfrecords"
    path.write_bytes(three[:end])
    with pytest.raises(DataError, match=r"record [012] of .*a\.tfrecords, at byte (0|21|47): .*cut off"):
        record_starts(path)


@given(st.binary(min_size=1, max_size=200))
def test_foreign_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("records") / "a.tfrecords"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"Cannot (read|use) .*a\.tfrecords"):
        list(read_records(path))


def test_what_is_wrong_is_said(tmp_path: Path, three: bytes) -> None:
    path = tmp_path / "a.tfrecords"
    with pytest.raises(DataError, match=r"Cannot read .*a\.tfrecords: No such file.* Copy the file there"):
        record_starts(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"the file is empty \(0 bytes\)"):
        record_starts(path)
    path.write_bytes(b"\x1f\x8b" + bytes(40))
    with pytest.raises(DataError, match=r"no TFRecord file \(it is compressed with gzip: unpack it\)"):
        record_starts(path)
    path.write_bytes(b"\x89PNG and so on, no record at all")
    with pytest.raises(DataError, match=r"it is no TFRecord file, as the checksum of its first length is wrong"):
        record_starts(path)
    path.write_bytes(three[:40])
    with pytest.raises(
        DataError, match=r"record 1 of .*, at byte 21: it has 10 bytes, and the file is cut off after 19"
    ):
        record_starts(path)
    path.write_bytes(three[:33] + b"S" + three[34:])
    with pytest.raises(DataError, match=r"record 1 of .*, at byte 21: the checksum of its content is wrong"):
        list(read_records(path))


def test_a_single_record_is_checked(three: bytes) -> None:
    assert content_of(three[:21], "it") == b"first"
    with pytest.raises(DataError, match="Cannot read it: it is cut off"):
        content_of(three[:9], "it")
    with pytest.raises(DataError, match="no record of this length begins there"):
        content_of(three[1:22], "it")
    with pytest.raises(DataError, match="Cannot read it: the checksum of its content is wrong"):
        content_of(three[:12] + b"First" + three[17:21], "it")


def test_the_latest_files_stay_mapped(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / str(n)).write_bytes(bytes([n]) * 9)
    maps = Maps(most=2)
    for n in (0, 1, 2, 3, 0):
        assert maps.part(str(tmp_path / str(n)), 1, 3, 4) == bytes([n]) * 4
    assert list(maps._open) == [(str(tmp_path / "3"), 1), (str(tmp_path / "0"), 1)]
    (tmp_path / "new").write_bytes(b"another edition")
    (tmp_path / "new").replace(tmp_path / "0")
    assert maps.part(str(tmp_path / "0"), 1, 0, 3) == bytes(3)
    assert maps.part(str(tmp_path / "0"), 2, 0, 3) == b"ano"
    with pytest.raises(DataError, match="No such file"):
        maps.part(str(tmp_path / "5"), 1, 0, 1)
