"""Recordings made up for tests."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray


def tone(hertz: float, seconds: float, rate: int) -> NDArray[np.float64]:
    """A sine, fading in and out."""
    at = np.arange(round(seconds * rate)) / rate
    faded: NDArray[np.float64] = np.sin(2 * np.pi * hertz * at) * np.hanning(len(at))
    return faded


def folder_of_words(folder: Path, words: dict[str, float], speakers: dict[str, int], takes: int = 2) -> Path:
    """``<folder>/<word>/<speaker>_<take>.wav``: each word a pitch, each speaker a rate of the files."""
    for word, hertz in words.items():
        (folder / word).mkdir(parents=True)
        for number, (speaker, rate) in enumerate(speakers.items()):
            for take in range(takes):
                wave = 0.5 * tone(hertz + 7 * number, 0.3 + 0.02 * take, rate)
                soundfile.write(folder / word / f"{speaker}_{take}.wav", wave, rate)
    return folder
