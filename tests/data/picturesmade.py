"""Pictures made up for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def drawn(number: int, take: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A class is a colour and a stripe's place; a take moves and dims it a little."""
    rng = np.random.default_rng(1000 * number + take)
    colour = np.array([(number * 67) % 256, (number * 131) % 256, (number * 29 + 90) % 256])
    pixels = np.broadcast_to(colour, (size[1], size[0], 3)).astype(np.int64) + rng.integers(
        -12, 12, (size[1], size[0], 3)
    )
    at = (number * 5 + take) % (size[0] - 6)
    pixels[:, at : at + 6] = 255 - colour
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def folder_of_pictures(folder: Path, classes: list[str], takes: int = 4, suffix: str = ".png", first: int = 0) -> Path:
    """``<folder>/<class>/<take>.png``, classes drawn as number ``first`` and those that follow."""
    for number, name in enumerate(classes, first):
        (folder / name).mkdir(parents=True)
        for take in range(takes):
            drawn(number, take).save(folder / name / f"{take}{suffix}")
    return folder
