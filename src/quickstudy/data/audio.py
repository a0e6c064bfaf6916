"""Floor 1: sound files -> waveforms of one rate and one length.

soundfile reads them (WAV, FLAC, OGG, MP3; 8, 16 and 24 bits, floats), whatever their rate and number of channels. What
libsndfile passes over in silence, such as a WAV that was cut off, is found here.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataError, InputError

__all__ = ["SUFFIXES", "Wave", "as_bytes", "fit", "from_bytes", "need_soundfile", "read", "resample"]

Wave: TypeAlias = NDArray[np.float32]

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""Files that are read as sound, in small letters."""

LONGEST = 60.0
"""Seconds. One file holds one word; what is longer was put there by mistake, and would fill the memory."""

# What programs write as the size of a WAV's sound that did not know it when they began: 0, or about the most there is.
_LARGEST_SIZE = 0x7FFF0000
_ENDLESS = 1 << 60  # what libsndfile says of a stream whose header does not know its length
_ID3 = 10  # bytes of the header of a tag at the beginning of an MP3
_FIRST_FRAME = 200  # bytes of an MP3's first frame among which its length stands
_OGG_HEADER = 27  # bytes of a page's header before its table of lengths


def need_soundfile() -> Any:
    """The module ``soundfile``.

    Raises:
        InputError: it, or libsndfile inside it, is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise InputError(
            f"Cannot read sound: the package soundfile is not installed ({error}). Run pip install 'quickstudy[audio]'."
        ) from error
    return soundfile


def read(content: bytes, name: str, rate: int) -> Wave:
    """One recording as mono samples in -1 .. 1 at ``rate``, its loudest sample at 1.

    Args:
        content: the file's bytes.
        name: how errors call it.
        rate: samples a second of the result.

    Returns:
        ``[samples]``; channels are averaged.

    Raises:
        DataError: it is empty, cut off, no sound, of no length, of more than a minute, or holds NaN or infinity.
        InputError: soundfile is missing.
    """
    sf = need_soundfile()
    if not content:
        raise DataError(f"Cannot read {name}: the file is empty (0 bytes). Record it again or remove it.")
    _refuse_cut_wav(content, name)
    _refuse_cut_ogg(content, name)
    _refuse_cut_mp3(content, name)
    samples, found = _decode(sf, content, name)
    if not len(samples):
        raise DataError(f"Cannot use {name}: it is a sound file without a single sample. Record it again or remove it.")
    if not np.isfinite(samples).all():
        where = int(np.flatnonzero(~np.isfinite(samples).all(1))[0])
        raise DataError(f"Cannot use {name}: sample {where} is NaN or infinite. Export it again or remove it.")
    wave = resample(samples.mean(1), found, rate)
    peak = float(np.abs(wave).max())
    return (wave / peak if peak > 0 else wave).astype(np.float32)


def _decode(sf: Any, content: bytes, name: str) -> tuple[NDArray[np.float64], int]:
    """Samples ``[n, channels]`` and their rate."""
    try:
        with sf.SoundFile(io.BytesIO(content)) as file:
            promised, rate = file.frames, file.samplerate
            if promised >= _ENDLESS:
                raise DataError(
                    f"Cannot read {name}: its header does not say how long it is, as of a stream. Export it again."
                )
            _refuse_long(promised / rate, name)
            samples = file.read(dtype="float64", always_2d=True)
            # An MP3's header, where there is one, may count what decoders leave out at the ends.
            least = 0.9 * promised if file.format == "MP3" else promised
    except sf.LibsndfileError as error:
        why = str(error.error_string).rstrip(".")
        raise DataError(
            f"Cannot read {name}: it is no sound file that libsndfile knows, or it is damaged ({why}). Expected "
            f"{', '.join(SUFFIXES)}. Export it again or remove it."
        ) from error
    if len(samples) < least:
        raise DataError(
            f"Cannot read {name}: it is cut off; its header names {promised} samples, {len(samples)} are there. "
            "Copy it again or remove it."
        )
    return samples, int(rate)


def _refuse_long(seconds: float, name: str) -> None:
    if seconds > LONGEST:
        raise DataError(
            f"Cannot use {name}: it is {seconds:.0f} seconds long; expected one word, at most {LONGEST:.0f} seconds. "
            "Cut it into words, one file each."
        )


def _refuse_cut_ogg(content: bytes, name: str) -> None:
    """An OGG file that ends within a page."""
    if content[:4] != b"OggS":
        return
    page = content[content.rfind(b"OggS") :]
    parts = page[26] if len(page) >= _OGG_HEADER else 0
    whole = _OGG_HEADER + parts + sum(page[_OGG_HEADER : _OGG_HEADER + parts])
    if len(page) < whole:
        raise DataError(
            f"Cannot read {name}: it is cut off; its last page has {len(page)} of {whole} bytes. Copy it again or "
            "remove it."
        )


def _refuse_cut_mp3(content: bytes, name: str) -> None:
    """An MP3 that is shorter than its first frame says, where that says it (Xing's header, of most encoders)."""
    tag = content.startswith(b"ID3") and len(content) > _ID3
    # The length of a tag is written in seven bits a byte.
    first = _ID3 + sum((content[6 + k] & 127) << (21 - 7 * k) for k in range(4)) if tag else 0
    frame = content[first : first + _FIRST_FRAME]
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    if place < 0 or len(frame) < place + 16 or not frame[place + 7] & 2:
        return
    size_at = place + 8 + (4 if frame[place + 7] & 1 else 0)
    whole = int.from_bytes(frame[size_at : size_at + 4], "big")
    if len(content) - first < whole:
        raise DataError(
            f"Cannot read {name}: it is cut off; its header names {whole} bytes of sound, {len(content) - first} are "
            "there. Copy it again or remove it."
        )


def _refuse_cut_wav(content: bytes, name: str) -> None:
    """A WAV that ends before its header says: libsndfile would hand out what is left of it."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    place = 12
    while place + 8 <= len(content):
        kind, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8
        if kind == b"data":
            if 0 < size < _LARGEST_SIZE and place + size > len(content):
                raise DataError(
                    f"Cannot read {name}: it is cut off; its header names {size} bytes of sound, "
                    f"{len(content) - place} are there. Copy it again or remove it."
                )
            return
        place += size + size % 2
    raise DataError(
        f"Cannot read {name}: it is cut off; it begins as a WAV file and ends before any sound. Copy it again or "
        "remove it."
    )


def resample(wave: NDArray[np.floating[Any]], rate: int, wanted: int) -> NDArray[np.float64]:
    """The same sound at another rate: scipy's polyphase filter, which takes away what the new rate cannot hold.

    Args:
        wave: ``[samples]``.
        rate: samples a second.
        wanted: of the result.

    Returns:
        ``[about samples * wanted / rate]``.
    """
    if rate == wanted:
        return np.asarray(wave, dtype=np.float64)
    from scipy.signal import resample_poly

    # Rates without a common divisor would need a filter of millions of taps; this is off by less than 1 in 500,000.
    ratio = Fraction(wanted, rate).limit_denominator(1000) or Fraction(1, 1000)
    return np.asarray(resample_poly(np.asarray(wave, dtype=np.float64), ratio.numerator, ratio.denominator))


def fit(wave: Wave, samples: int) -> Wave:
    """Exactly ``samples`` of it: a short one in the middle of silence, of a long one the part with the most energy."""
    spare = samples - len(wave)
    if spare >= 0:
        return np.pad(wave, (spare // 2, spare - spare // 2))
    energy = np.concatenate([[0.0], np.square(wave, dtype=np.float64).cumsum()])
    first = int((energy[samples:] - energy[:-samples]).argmax())
    return wave[first : first + samples]


def as_bytes(wave: Wave) -> NDArray[np.uint8]:
    """Samples in -1 .. 1, ``[n]``, as the bytes of 16-bit numbers, ``[1, 2 n]``: a store keeps bytes."""
    return np.round(np.clip(wave, -1, 1) * 32767).astype("<i2").view(np.uint8)[None]


def from_bytes(content: NDArray[np.uint8]) -> Wave:
    """What :func:`as_bytes` kept, ``[..., 1, 2 n] -> [..., n]``, float32."""
    wave: Wave = content[..., 0, :].view("<i2").astype(np.float32)
    wave /= 32767
    return wave
