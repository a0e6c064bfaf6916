"""Floor 6: what clients send as an example: told apart, checked against the limits, and made what an estimator reads.

What is accepted here can be read: a picture is decoded before it is kept, and looked at before it is decoded.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from PIL import Image, UnidentifiedImageError

from quickstudy.data import audio, picturefiles
from quickstudy.errors import DataError, InputError
from quickstudy.serve.errors import Refused
from quickstudy.serve.records import New
from quickstudy.serve.schemas import Content
from quickstudy.serve.settings import Limits

__all__ = ["KINDS", "Decoder", "deadline", "file_of", "kind_of", "of_content", "suffix_of"]

PICTURES = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/bmp": ".bmp", "image/webp": ".webp",
    "image/tiff": ".tif",
}  # fmt: skip
SOUNDS = {"audio/wav": ".wav", "audio/flac": ".flac", "audio/ogg": ".ogg", "audio/mpeg": ".mp3"}
TEXT, ROW = "text/plain; charset=utf-8", "application/json"
_SUFFIXES = {**PICTURES, **SOUNDS, TEXT: ".txt", ROW: ".json"}
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "BMP": "image/bmp", "WEBP": "image/webp",
            "TIFF": "image/tiff"}  # fmt: skip
_SOUND_FORMATS = {"WAV": "audio/wav", "WAVEX": "audio/wav", "FLAC": "audio/flac", "OGG": "audio/ogg",
                  "MP3": "audio/mpeg", "MPEG": "audio/mpeg"}  # fmt: skip
_MOST_CHANNELS, _MOST_RATE = 8, 192_000
_MOST_SAMPLES = 12_000_000  # of all channels: a minute of 96,000 a second in stereo; a few bytes may hold far more
_LARGEST = 1e38  # below what 32 bits hold
KINDS = ("pictures", "texts", "sounds", "rows")


def kind_of(media: str) -> str:
    """The kind of an example by what it is kept as."""
    if media in PICTURES:
        return "pictures"
    return "sounds" if media in SOUNDS else "texts" if media == TEXT else "rows"


def suffix_of(media: str) -> str:
    """How a file of it ends."""
    return _SUFFIXES[media]


def of_content(content: Content, label: str, limits: Limits, where: str) -> New:
    """An example that came as JSON.

    Args:
        content: exactly one of its fields is set.
        label: its label; empty for a query.
        limits: of the service.
        where: how errors call it, such as ``"examples[2]"``.

    Raises:
        Refused: it cannot be read, or is larger than allowed.
    """
    if content.text is not None:
        return _text(content.text, label, limits, where)
    if content.row is not None:
        return _row(content.row, label, limits, where)
    encoded, check = (content.image, _picture) if content.image is not None else (content.audio or "", _sound)
    return check(_decoded(encoded or "", limits, where), label, limits, where)


def file_of(content: bytes, declared: str, label: str, limits: Limits, where: str) -> New:
    """An example that came as a file, told by its declared type, else by its bytes.

    Args:
        content: of the file.
        declared: the media type that the client says it has, if any.
        label: its label; empty for a query.
        limits: of the service.
        where: how errors call it: the file's name.

    Raises:
        Refused: it is nothing that is known here, cannot be read, or is larger than allowed.
    """
    _refuse_large(len(content), limits, where)
    declared = declared.partition(";")[0].strip().lower()
    if declared == "text/plain":
        try:
            return _text(content.decode("utf-8-sig"), label, limits, where)
        except UnicodeDecodeError as error:
            raise _unreadable(where, f"it is no text in UTF-8 (byte {error.start})") from error
    if declared == "application/json":
        return _row(_numbers(content, where), label, limits, where)
    if declared.startswith("audio/") or _sounds_like(content):
        return _sound(content, label, limits, where)
    return _picture(content, label, limits, where)


def deadline(limits: Limits) -> Callable[[], None]:
    """To be called between examples: a few bytes may be many pixels, and many of them would be read for minutes.

    The call raises Refused once reading has taken as long as is allowed.
    """
    end = time.monotonic() + limits.compute_seconds

    def in_time() -> None:
        if time.monotonic() > end:
            raise Refused(
                413,
                f"Reading this takes longer than {limits.compute_seconds} seconds. Nothing was changed. Send less at "
                "once, or smaller pictures and recordings.",
            )

    return in_time


class Decoder:
    """From kept bytes to what an estimator reads; small results are remembered, as tasks grow one by one.

    Args:
        most: bytes that are remembered.
    """

    def __init__(self, most: int = 64 * 1024 * 1024) -> None:
        self._most, self._held = most, 0
        self._known: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, media: str, content: bytes, rate: int, id_: str | None = None) -> Any:
        """One example.

        Args:
            media: what it is kept as.
            content: its bytes.
            rate: samples a second, of sounds.
            id_: of an example, which never changes.

        Returns:
            A picture of Pillow's, a waveform at ``rate``, a text, or a list of numbers.
        """
        kind = kind_of(media)
        if kind == "texts":
            return content.decode()
        if kind == "rows":
            return json.loads(content)
        make: Callable[[], Any] = (
            (lambda: picturefiles.decode(content, "the picture"))
            if kind == "pictures"
            else (lambda: audio.read(content, "the recording", rate))
        )
        return make() if id_ is None else self._remembered((id_, rate), make)

    def _remembered(self, key: tuple[str, int], make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = make()
        size = _size(found)
        if size <= self._most // 64:
            with self._lock:
                if key not in self._known:
                    self._known[key], self._held = found, self._held + size
                while self._held > self._most:
                    self._held -= _size(self._known.popitem(last=False)[1])
        return found


def _size(found: Any) -> int:
    if isinstance(found, Image.Image):
        return found.width * found.height * len(found.getbands())
    return int(found.nbytes)


# --- the four kinds ----------------------------------------------------------------------------------


def _text(text: str, label: str, limits: Limits, where: str) -> New:
    if not text.replace("\0", " ").strip():
        raise _unreadable(where, "the text is empty")
    if len(text) > limits.text_letters:
        raise _too_large(where, f"{len(text):,} letters", f"{limits.text_letters:,}")
    try:
        return New(label, TEXT, text.encode())
    except UnicodeEncodeError as error:
        raise _unreadable(where, "the text has half of a pair of UTF-16") from error


def _row(row: list[float], label: str, limits: Limits, where: str) -> New:
    if len(row) > limits.row_numbers:
        raise _too_large(where, f"{len(row):,} numbers", f"{limits.row_numbers:,}")
    if not all(abs(number) < _LARGEST for number in row):  # which NaN is not, either
        raise _unreadable(where, "a number of the row is not finite, or larger than 1e38")
    return New(label, ROW, json.dumps([float(number) for number in row]).encode(), len(row))


def _numbers(content: bytes, where: str) -> list[float]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _unreadable(where, "it is no JSON") from error
    numbers = isinstance(found, list) and all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in found
    )
    if not numbers or not found:
        raise _unreadable(where, "expected one row: a list of numbers")
    try:
        return [float(number) for number in found]
    except OverflowError as error:
        raise _unreadable(where, "a number of the row is too large") from error


def _picture(content: bytes, label: str, limits: Limits, where: str) -> New:
    if not content:
        raise _unreadable(where, "it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()
            with Image.open(io.BytesIO(content), formats=tuple(_FORMATS)) as found:  # reads the header alone
                media, pixels = _FORMATS.get(found.format or "", "image/png"), found.width * found.height
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise _too_large(where, "far too many pixels", f"{limits.pixels:,}") from error
        raise _unreadable(where, "it is no picture: expected PNG, JPEG, GIF, BMP, WebP or TIFF") from error
    if pixels > limits.pixels:
        raise _too_large(where, f"{pixels:,} pixels", f"{limits.pixels:,}")
    try:
        picturefiles.decode(content, where)
    except DataError as error:
        raise Refused(422, str(error), "unreadable") from error
    return New(label, media, content)


def _sound(content: bytes, label: str, limits: Limits, where: str) -> New:
    if not content:
        raise _unreadable(where, "it is empty")
    sf = audio.need_soundfile()
    try:
        about = sf.info(io.BytesIO(content))
    except (sf.LibsndfileError, OSError, ValueError) as error:
        raise _unreadable(where, "it is no sound: expected WAV, FLAC, OGG or MP3") from error
    media = _SOUND_FORMATS.get(about.format)
    if media is None:
        raise _unreadable(where, f"a sound of the format {about.format} is not read: expected WAV, FLAC, OGG or MP3")
    if about.channels > _MOST_CHANNELS or not 0 < about.samplerate <= _MOST_RATE:
        raise _unreadable(
            where,
            f"it has {about.channels} channels of {about.samplerate} samples a second: expected at most "
            f"{_MOST_CHANNELS} of {_MOST_RATE:,}",
        )
    if about.frames > limits.sound_seconds * about.samplerate:
        raise _too_large(where, f"{about.frames / about.samplerate:,.0f} seconds", f"{limits.sound_seconds}")
    if about.frames * about.channels > _MOST_SAMPLES:
        raise _too_large(where, f"{about.frames * about.channels:,} samples in all channels", f"{_MOST_SAMPLES:,}")
    try:
        audio.read(content, where, 8000)
    except (DataError, InputError) as error:
        raise Refused(422, str(error), "unreadable") from error
    return New(label, media, content)


def _decoded(encoded: str, limits: Limits, where: str) -> bytes:
    if encoded.startswith("data:"):  # as a browser's canvas gives it
        encoded = encoded.partition(",")[2]
    _refuse_large(len(encoded) * 3 // 4, limits, where)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unreadable(where, f"it is no base64 ({error})") from error


def _sounds_like(content: bytes) -> bool:
    head = content[:12]
    return (
        head[:4] in (b"fLaC", b"OggS")
        or head[:3] == b"ID3"
        or (head[:4] == b"RIFF" and head[8:] == b"WAVE")
        or (
            len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2  # a frame of MP3
        )
    )


def _refuse_large(size: int, limits: Limits, where: str) -> None:
    if size > limits.content_bytes:
        raise _too_large(where, f"{size:,} bytes", f"{limits.content_bytes:,}")


def _unreadable(where: str, why: str) -> Refused:
    return Refused(422, f"Cannot read {where}: {why}. Nothing was changed.", "unreadable")


def _too_large(where: str, found: str, most: str) -> Refused:
    return Refused(413, f"Cannot take {where}: it has {found}; at most {most} are allowed. Make it smaller.")
