"""Sound files of every format, rate and depth become the same waveform; broken ones are named."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quickstudy.data.audio import as_bytes, fit, from_bytes, need_soundfile, read, resample
from quickstudy.errors import DataError, InputError
from tests.data.soundfiles import tone

RATE = 8000


def encoded(wave: NDArray[np.float64], rate: int, kind: str, subtype: str | None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype", "likeness"),
    [
        ("WAV", "PCM_U8", 0.99),
        ("WAV", "PCM_16", 0.9999),
        ("WAV", "PCM_24", 0.9999),
        ("WAV", "PCM_32", 0.9999),
        ("WAV", "FLOAT", 0.9999),
        ("WAV", "DOUBLE", 0.9999),
        ("FLAC", "PCM_16", 0.9999),
        ("FLAC", "PCM_24", 0.9999),
        ("OGG", "VORBIS", 0.98),
        ("MP3", None, 0.95),
    ],
)
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format(kind: str, subtype: str | None, likeness: float, rate: int, channels: int) -> None:
    wave = 0.4 * tone(440, 0.5, rate)
    found = read(encoded(np.stack([wave] * channels, 1), rate, kind, subtype), "x", RATE)
    assert found.dtype == np.float32 and np.abs(found).max() == pytest.approx(1)
    expected = fit((tone(440, 0.5, RATE)).astype(np.float32), 6000)
    near = max(np.corrcoef(np.roll(fit(found, 6000), k), expected)[0, 1] for k in range(-300, 301))  # MP3 adds a delay
    assert near > likeness


@given(st.integers(4000, 100_000), st.integers(4000, 48_000), st.floats(0.05, 0.5))
@settings(max_examples=30, deadline=None)
def test_a_tone_keeps_its_pitch_and_length(rate: int, wanted: int, seconds: float) -> None:
    seconds = round(seconds * rate) / rate  # of whole samples
    found = resample(tone(400, seconds, rate), rate, wanted)
    assert len(found) == pytest.approx(seconds * wanted, abs=3)
    expected = tone(400, seconds, wanted)
    n = min(len(found), len(expected))
    assert np.abs(found[:n] - expected[:n]).max() < 0.05


def test_what_a_rate_cannot_hold_is_filtered_out() -> None:
    """6 kHz would be heard as 2 kHz at 8,000 samples a second."""
    assert np.abs(resample(tone(6000, 0.5, 44100), 44100, 8000)).max() < 0.01


def test_fit() -> None:
    wave = np.arange(1, 4, dtype=np.float32)
    assert fit(wave, 6).tolist() == [0, 1, 2, 3, 0, 0]
    assert fit(wave, 3).tolist() == [1, 2, 3]
    assert fit(np.array([0, 0, 3, 2, 0, 1], dtype=np.float32), 2).tolist() == [3, 2]


def test_bytes_and_back() -> None:
    wave = np.linspace(-1, 1, 101, dtype=np.float32)
    kept = as_bytes(wave)
    assert kept.shape == (1, 202) and kept.dtype == np.uint8
    assert np.abs(from_bytes(kept) - wave).max() < 2e-5


def test_a_stream_of_unknown_length_is_read() -> None:
    content = bytearray(encoded(tone(440, 0.2, RATE), RATE, "WAV", "PCM_16"))
    content[40:44] = b"\xff" * 4
    assert len(read(bytes(content), "x", RATE)) == 1600


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF - 36])
def test_other_sizes_that_mean_unknown(size: int) -> None:
    content = bytearray(encoded(tone(440, 0.2, RATE), RATE, "WAV", "PCM_16"))
    content[40:44] = size.to_bytes(4, "little")
    if size:  # libsndfile takes a size of 0 at its word
        assert len(read(bytes(content), "x", RATE)) == 1600
    else:
        with pytest.raises(DataError, match="without a single sample"):
            read(bytes(content), "x", RATE)


def test_a_flac_that_does_not_know_its_length() -> None:
    content = bytearray(encoded(tone(440, 0.2, RATE), RATE, "FLAC", "PCM_16"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    with pytest.raises(DataError, match=r"Cannot read x: its header does not say how long it is, as of a stream"):
        read(bytes(content), "x", RATE)


def test_a_cut_mp3() -> None:
    content = encoded(np.random.default_rng(0).normal(size=20000).clip(-3, 3) / 3, RATE, "MP3", None)
    with pytest.raises(
        DataError, match=r"w/a\.mp3: it is cut off; its header names 6120 bytes of sound, \d+ are there"
    ):
        read(content[: len(content) // 2], "w/a.mp3", RATE)


def test_a_cut_ogg() -> None:
    content = encoded(np.random.default_rng(0).normal(size=20000).clip(-3, 3) / 3, RATE, "OGG", "VORBIS")
    with pytest.raises(DataError, match=r"w/a\.ogg: it is cut off; its last page has \d+ of \d+ bytes"):
        read(content[:-100], "w/a.ogg", RATE)


def test_silence_stays_silence() -> None:
    assert not read(encoded(np.zeros(800), RATE, "WAV", "PCM_16"), "x", RATE).any()


WAV = encoded(tone(440, 0.2, RATE), RATE, "WAV", "PCM_16")
LONG = encoded(np.zeros(61 * 4000), 4000, "WAV", "PCM_U8")
NOT_A_NUMBER = np.array([0.0, 0.5, np.nan, 0.1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"Cannot read w/a\.wav: the file is empty \(0 bytes\)\. Record it again or remove it\."),
        (WAV[:1000], r"w/a\.wav: it is cut off; its header names 3200 bytes of sound, 956 are there\. Copy it again"),
        (WAV[:30], r"w/a\.wav: it is cut off; it begins as a WAV file and ends before any sound"),
        (b"hello, this is text\n" * 50, r"w/a\.wav: it is no sound file that libsndfile knows, or it is damaged"),
        (encoded(np.zeros(0), RATE, "WAV", "PCM_16"), r"w/a\.wav: it is a sound file without a single sample"),
        (encoded(NOT_A_NUMBER, RATE, "WAV", "FLOAT"), r"w/a\.wav: sample 2 is NaN or infinite\. Export it again"),
        (LONG, r"w/a\.wav: it is 61 seconds long; expected one word, at most 60 seconds\. Cut it into words"),
    ],
    ids=["empty", "cut", "cut in its header", "text", "no samples", "NaN", "long"],
)
def test_broken_files(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(content, "w/a.wav", RATE)


def test_a_cut_flac() -> None:
    content = encoded(np.random.default_rng(0).normal(size=20000).clip(-3, 3) / 3, RATE, "FLAC", "PCM_16")
    with pytest.raises(DataError, match=r"w/a\.flac: it is (cut off|no sound file)"):
        read(content[: len(content) // 2], "w/a.flac", RATE)


def test_without_soundfile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(
        InputError,
        match=r"Cannot read sound: the package soundfile is not installed .*pip install 'quickstudy\[audio\]'",
    ):
        need_soundfile()


def test_the_published_files(data_root: Path) -> None:
    from quickstudy.data.speechfiles import published

    files = published("d", data_root / "free-spoken-digit", ("recordings.zip",), "recordings", "Digits")
    assert len(files.names) == 3000
    wave = read(files.reader("recordings/7_jackson_0.wav"), "x", RATE)
    assert 2000 < len(wave) < 8000
