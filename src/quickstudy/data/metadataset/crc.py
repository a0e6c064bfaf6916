"""Floor 1: CRC-32C (Castagnoli) of many pieces of bytes at once, in NumPy.

The remainder of a polynomial is linear: that of two halves is the first one's, moved on by as many zero bytes as the
second has, and the second one's, added (exclusive or). So pieces are cut into leaves of 16 bytes, whose remainders are
looked up, and neighbours are joined level by level, all pieces side by side. Zeros before a piece change nothing.

RFC 3720, appendix B.4 has the known answers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["checksums", "crc32c", "masked"]

Words = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78  # reversed, as its bits come the lowest first
_LEAF = 16
_AT_ONCE = 1 << 23  # bytes that are looked up together
_MASK = 0xA282EAD8  # of the TFRecord format: a checksum of data that holds checksums would be weak


def _byte_table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_BYTES = _byte_table()
_LISTED: list[int] = _BYTES.tolist()


@functools.cache
def _leaf_tables() -> Words:
    """``[8, 65536]``: what two neighbouring bytes of a leaf add to its remainder."""
    moved = [_BYTES]  # moved[n]: of a byte that n bytes follow
    for _ in range(_LEAF - 1):
        last = moved[-1]
        moved.append(_BYTES[last & 255] ^ (last >> 8))
    pairs = np.arange(1 << 16)
    low, high = pairs & 255, pairs >> 8
    return np.stack([moved[_LEAF - 1 - n][low] ^ moved[_LEAF - 2 - n][high] for n in range(0, _LEAF, 2)])


@functools.cache
def _moved_on(level: int) -> Words:
    """``[4, 256]``: a remainder, byte by byte, moved on by ``16 * 2**level`` zero bytes."""
    if level:
        half = _moved_on(level - 1)
        return _move(half, half)
    found = np.stack([np.arange(256, dtype=np.uint32) << np.uint32(8 * n) for n in range(4)])
    for _ in range(_LEAF):
        found = _BYTES[found & 255] ^ (found >> 8)
    return found


def _move(remainders: Words, table: Words) -> Words:
    found: Words = table[0][remainders & 255]
    for n in range(1, 4):
        found = found ^ table[n][(remainders >> (8 * n)) & 255]
    return found


def crc32c(data: bytes) -> int:
    """Of one short piece, byte by byte.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    found = 0xFFFFFFFF
    for byte in data:
        found = _LISTED[(found ^ byte) & 255] ^ (found >> 8)
    return found ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """As it stands in a TFRecord file: turned by 15 bits, and a constant added.

    >>> hex(masked(crc32c(b"123456789")))
    '0xc78ab0e5'
    """
    return (((checksum >> 15) | (checksum << 17)) + _MASK) & 0xFFFFFFFF


def checksums(pieces: Sequence[bytes]) -> Words:
    """Of many pieces.

    Args:
        pieces: n of them, of any lengths.

    Returns:
        uint32 ``[n]``.
    """
    found = np.empty(len(pieces), dtype=np.uint32)
    for group in _alike(pieces):
        if len(pieces[group[0]]) < 4:
            found[group] = [crc32c(pieces[n]) for n in group]
        else:
            found[group] = _of_alike([pieces[n] for n in group])
    return found


def _alike(pieces: Sequence[bytes]) -> Iterator[list[int]]:
    """Numbers of pieces of about one length, some of them at once."""
    group: list[int] = []
    for number in sorted(range(len(pieces)), key=lambda n: len(pieces[n])):
        size = len(pieces[number])
        if group:
            least = len(pieces[group[0]])
            if least < 4 <= size or size > 64 + least * 5 // 4 or size * (len(group) + 1) > _AT_ONCE:
                yield group
                group = []
        group.append(number)
    if group:
        yield group


def _of_alike(pieces: list[bytes]) -> Words:
    longest = len(pieces[-1])
    leaves = -(-longest // _LEAF)
    width = leaves * _LEAF
    data = np.frombuffer(bytearray().join(piece.rjust(width, b"\0") for piece in pieces), dtype=np.uint8)
    first = np.arange(len(pieces)) * width + width - np.array([len(piece) for piece in pieces])
    data[first[:, None] + np.arange(4)] ^= 0xFF  # the register begins with ones
    pairs = data.view("<u2").reshape(len(pieces), leaves, _LEAF // 2)
    tables = _leaf_tables()
    found: Words = tables[0][pairs[..., 0]]
    for n in range(1, _LEAF // 2):
        found ^= tables[n][pairs[..., n]]
    level = 0
    while found.shape[1] > 1:
        if found.shape[1] % 2:
            found = np.concatenate([np.zeros((len(pieces), 1), dtype=np.uint32), found], axis=1)
        found = _move(found[:, ::2], _moved_on(level)) ^ found[:, 1::2]
        level += 1
    return np.bitwise_xor(found[:, 0], np.uint32(0xFFFFFFFF))
