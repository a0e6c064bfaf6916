"""Floor 1: tf.train.Example, read and written without protocol buffers.

    Example   { Features features = 1; }
    Features  { map<string, Feature> feature = 1; }         an entry is { string key = 1; Feature value = 2; }
    Feature   { BytesList = 1 | FloatList = 2 | Int64List = 3; }
    BytesList { repeated bytes value = 1; }   FloatList { repeated float value = 1 [packed]; }   Int64List likewise

In a message each field is a tag (its number, and how it is written) and its content. As protocol buffers want it,
numbers are read packed and unpacked, fields that nobody knows are passed over, of a field that stands there twice the
last counts (of messages: they are merged), and so does the last of two entries with one key.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from quickstudy.errors import DataError

__all__ = ["Feature", "parse_example", "picture_and_label", "write_example"]

Feature: TypeAlias = list[bytes] | list[int] | list[float]
"""Values of a feature; bytes, whole numbers of 64 bits, or floats of 32."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LISTS = {1: "bytes", 2: "float", 3: "int64"}


class _Broken(Exception):
    """Bytes are no message; its text says why."""


def parse_example(content: bytes, name: str) -> dict[str, Feature]:
    """The features in a serialised Example.

    Args:
        content: its bytes.
        name: how errors call it.

    Raises:
        DataError: the bytes are no Example.
    """
    found: dict[str, Feature] = {}
    try:
        for number, features in _messages(content):
            if number != 1:
                continue
            for inner, entry in _messages(features):
                if inner == 1:
                    key, feature = _entry(entry)
                    found[key] = feature
    except _Broken as error:
        raise DataError(
            f"Cannot read {name}: it holds no tf.train.Example ({error}). Expected records with the features 'image' "
            "and 'label'."
        ) from error
    return found


def picture_and_label(content: bytes, name: str) -> tuple[bytes, int]:
    """The encoded picture, and the number of its class, of a serialised Example.

    Raises:
        DataError: the bytes are no Example, or it has no such features.
    """
    features = parse_example(content, name)
    picture, label = (features.get(key) for key in ("image", "label"))
    has = ", ".join(map(repr, sorted(features))) or "none"
    if not picture or len(picture) != 1 or not isinstance(picture[0], bytes):
        raise DataError(
            f"Cannot use {name}: its Example has no feature 'image' with one picture as bytes (its features: {has}). "
            "Convert the data set again."
        )
    if not label or len(label) != 1 or not isinstance(label[0], int):
        raise DataError(
            f"Cannot use {name}: its Example has no feature 'label' with one whole number (its features: {has}). "
            "Convert the data set again."
        )
    return picture[0], label[0]


def write_example(features: Mapping[str, Sequence[bytes] | Sequence[int] | Sequence[float]]) -> bytes:
    """Serialise features; entries are sorted by their keys, as where protocol buffers are told to be deterministic.

    Args:
        features: key -> values of one type; an empty list is written as one of bytes.

    >>> write_example({"label": [3]}).hex()
    '0a100a0e0a056c6162656c12051a030a0103'
    """
    entries = []
    for key in sorted(features, key=str.encode):
        entries.append(_field(1, _field(1, key.encode()) + _field(2, _feature(features[key]))))
    return _field(1, b"".join(entries))


def _feature(values: Sequence[bytes] | Sequence[int] | Sequence[float]) -> bytes:
    if all(isinstance(value, bytes) for value in values):
        return _field(1, b"".join(_field(1, value) for value in values if isinstance(value, bytes)))
    if all(isinstance(value, int) for value in values):
        return _field(3, _field(1, b"".join(_varint(int(value) & (1 << 64) - 1) for value in values)))
    return _field(2, _field(1, struct.pack(f"<{len(values)}f", *values)))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _entry(content: bytes) -> tuple[str, Feature]:
    key, feature = b"", b""
    for number, value in _messages(content):
        if number == 1:
            key = value
        elif number == 2:
            feature += value  # messages are merged, and so are those that stand one after the other
    try:
        return key.decode(), _values(feature)
    except UnicodeDecodeError as error:
        raise _Broken("a feature's name is no text") from error


def _values(content: bytes) -> Feature:
    kind, lists = 0, b""
    for number, value in _messages(content):
        if number in _LISTS:  # one of them: another kind takes the place of what was there
            lists, kind = (lists if number == kind else b"") + value, number
    if kind == 1:
        return [value for number, value in _messages(lists) if number == 1]
    return _floats(lists) if kind == 2 else _integers(lists) if kind == 3 else list[bytes]()


def _integers(content: bytes) -> list[int]:
    found: list[int] = []
    for number, wire, value in _fields(content):
        if number == 1 and isinstance(value, int) and wire == _VARINT:
            found.append(value)
        elif number == 1 and isinstance(value, bytes) and wire == _BYTES:
            place = 0
            while place < len(value):
                one, place = _read_varint(value, place)
                found.append(one)
    return [value - (1 << 64) if value >> 63 else value for value in found]


def _floats(content: bytes) -> list[float]:
    found: list[float] = []
    for number, wire, value in _fields(content):
        if number == 1 and isinstance(value, bytes) and wire in (_BYTES, _FIXED32):
            if len(value) % 4:
                raise _Broken("a list of floats is cut off")
            found += struct.unpack(f"<{len(value) // 4}f", value)
    return found


def _messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each field that is written with its length."""
    for number, wire, value in _fields(content):
        if wire == _BYTES and isinstance(value, bytes):
            yield number, value


def _fields(content: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(number, how it is written, its value) of each field of a message."""
    place = 0
    while place < len(content):
        tag, place = _read_varint(content, place)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise _Broken(f"there is no field {number}")
        if wire == _VARINT:
            value, place = _read_varint(content, place)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, place = _read_varint(content, place)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise _Broken(f"no field is written in way {wire}")
        if place + size > len(content):
            raise _Broken(f"a field of {size} bytes is cut off after {len(content) - place}")
        yield number, wire, content[place : place + size]
        place += size


def _read_varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of at most 64 bits, seven in a byte, and the place after it."""
    found = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise _Broken("a number is cut off")
        byte = content[place]
        place += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found & (1 << 64) - 1, place
    raise _Broken("a number has more than ten bytes")
