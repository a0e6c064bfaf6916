"""tf.train.Example without protocol buffers, against protocol buffers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quickstudy.data.metadataset.examples import parse_example, picture_and_label, write_example
from quickstudy.errors import DataError

# What the tutorial of TensorFlow prints of its example; its entries are in no order.
TUTORIAL = (
    b"\nR\n\x14\n\x08feature2\x12\x08\n\x06\n\x04goat\n\x14\n\x08feature3\x12\x08\x12\x06\n\x04[\xd3|?"
    b"\n\x11\n\x08feature0\x12\x05\x1a\x03\n\x01\x00\n\x11\n\x08feature1\x12\x05\x1a\x03\n\x01\x04"
)


def test_the_example_of_the_tutorial() -> None:
    found = parse_example(TUTORIAL, "it")
    assert {key: value for key, value in found.items() if key != "feature3"} == {
        "feature0": [0],
        "feature1": [4],
        "feature2": [b"goat"],
    }
    assert np.allclose(np.array(found["feature3"]), [0.9876])
    again = write_example(found)
    assert len(again) == len(TUTORIAL) and parse_example(again, "it") == found


@pytest.fixture(scope="module")
def message() -> Any:
    """Protocol buffers' own class of an Example, of the same description as TensorFlow's."""
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2")
    pool = pytest.importorskip("google.protobuf.descriptor_pool")
    factory = pytest.importorskip("google.protobuf.message_factory")
    file = descriptor.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    kinds = descriptor.FieldDescriptorProto

    def add(owner: Any, name: str, number: int, kind: int, label: int, of: str = "") -> Any:
        return owner.field.add(name=name, number=number, type=kind, label=label, type_name=of or None)

    for name, kind in (
        ("BytesList", kinds.TYPE_BYTES),
        ("FloatList", kinds.TYPE_FLOAT),
        ("Int64List", kinds.TYPE_INT64),
    ):
        add(file.message_type.add(name=name), "value", 1, kind, kinds.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("BytesList", "FloatList", "Int64List"), 1):
        field = add(feature, name.lower(), number, kinds.TYPE_MESSAGE, kinds.LABEL_OPTIONAL, f".t.{name}")
        field.oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, kinds.TYPE_STRING, kinds.LABEL_OPTIONAL)
    add(entry, "value", 2, kinds.TYPE_MESSAGE, kinds.LABEL_OPTIONAL, ".t.Feature")
    add(features, "feature", 1, kinds.TYPE_MESSAGE, kinds.LABEL_REPEATED, ".t.Features.FeatureEntry")
    add(file.message_type.add(name="Example"), "features", 1, kinds.TYPE_MESSAGE, kinds.LABEL_OPTIONAL, ".t.Features")
    made = pool.DescriptorPool()
    made.Add(file)
    return factory.GetMessageClass(made.FindMessageTypeByName("t.Example"))


def theirs(message: Any, features: dict[str, list[Any]]) -> Any:
    made = message()
    for key, values in features.items():
        kind = (
            "int64list" if isinstance(values[0], int) else "floatlist" if isinstance(values[0], float) else "byteslist"
        )
        getattr(made.features.feature[key], kind).value.extend(values)
    return made


FEATURES = st.dictionaries(
    st.text(max_size=6),
    st.one_of(
        st.lists(st.binary(max_size=200), min_size=1, max_size=4),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
        st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4),
    ),
    max_size=4,
)


@given(features=FEATURES)
def test_bytes_are_those_of_protocol_buffers(message: Any, features: dict[str, list[Any]]) -> None:
    # Which of two names comes first of which one begins with the other is not the same in all of their versions.
    assume(not any(other != key and other.startswith(key) for key in features for other in features))
    expected = theirs(message, features).SerializeToString(deterministic=True)
    assert write_example(features) == (expected or b"\n\x00")
    assert parse_example(expected, "it") == features


def read_by_theirs(message: Any, content: bytes) -> dict[str, Any] | None:
    try:
        found = message.FromString(content)
    except Exception:
        return None
    read = {}
    for key, feature in found.features.feature.items():
        kind = feature.WhichOneof("kind")
        read[key] = [] if kind is None else list(getattr(feature, kind).value)
    return read


@given(data=st.data(), features=FEATURES)
def test_damaged_bytes_are_refused_or_read_alike(
    message: Any, data: st.DataObject, features: dict[str, list[Any]]
) -> None:
    """Whatever is read of bytes with a mistake, protocol buffers read it too, or refuse what is read more strictly."""
    content = bytearray(write_example(features))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        ours = parse_example(bytes(content), "it")
    except DataError as error:
        assert str(error).startswith("Cannot read it: it holds no tf.train.Example (")
        return
    read = read_by_theirs(message, bytes(content))
    if read is not None and len(read) == len(features):  # an entry with fields that it does not know, it may put aside
        assert repr(read) == repr({key: ours[key] for key in read})  # as repr, for NaN


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused_in_a_sentence(content: bytes) -> None:
    try:
        parse_example(content, "it")
    except DataError as error:
        assert "Cannot read it: it holds no tf.train.Example (" in str(error)


def test_unpacked_numbers() -> None:
    """An older writer of int64_list and float_list: each number with its own tag."""
    ints = b"\x1a\x05" + b"\x08\x03" + b"\x08\xac\x02"
    entry = b"\n\x01a" + b"\x12" + bytes([len(ints)]) + ints
    floats = b"\x12\x0a" + b"\x0d\x00\x00\x80\x3f" + b"\x0d\x00\x00\x00\x40"
    other = b"\n\x01b" + b"\x12" + bytes([len(floats)]) + floats
    body = b"".join(b"\n" + bytes([len(one)]) + one for one in (entry, other))
    assert parse_example(b"\n" + bytes([len(body)]) + body, "it") == {"a": [3, 300], "b": [1.0, 2.0]}


def test_of_two_kinds_of_values_the_last_counts(message: Any) -> None:
    as_bytes, as_numbers = b"\x0a\x03\x0a\x01x", b"\x1a\x03\x0a\x01\x07"
    more = b"\x1a\x03\x0a\x01\x08"  # of one kind: both
    for feature, values in (
        (as_bytes + as_numbers, [7]),
        (as_numbers + as_bytes, [b"x"]),
        (as_numbers + more, [7, 8]),
        (b"", []),
    ):
        entry = b"\n\x01a\x12" + bytes([len(feature)]) + feature
        body = b"\n" + bytes([len(entry)]) + entry
        content = b"\n" + bytes([len(body)]) + body
        assert parse_example(content, "it") == {"a": values} == read_by_theirs(message, content)


def test_a_picture_and_its_label() -> None:
    assert picture_and_label(write_example({"image": [b"jpeg"], "label": [7]}), "it") == (b"jpeg", 7)
    with pytest.raises(DataError, match=r"record 3: its Example has no feature 'image' .* \(its features: 'label'\)"):
        picture_and_label(write_example({"label": [7]}), "record 3")
    with pytest.raises(DataError, match=r"no feature 'image' with one picture as bytes"):
        picture_and_label(write_example({"image": [b"a", b"b"], "label": [7]}), "record 3")
    with pytest.raises(DataError, match=r"no feature 'label' with one whole number \(its features: 'image', 'label'\)"):
        picture_and_label(write_example({"image": [b"a"], "label": [1.5]}), "record 3")
    with pytest.raises(DataError, match=r"its features: none"):
        picture_and_label(b"", "record 3")
    with pytest.raises(DataError, match=r"holds no tf\.train\.Example \(a field of 9 bytes is cut off after 1\)"):
        picture_and_label(b"\n\x09a", "record 3")
