"""Floor 6: pretrained networks of Hugging Face under a plain learner, and whether one for pictures is in reach.

    hf-vision:NAME   pictures, by a vision encoder: a folder, or a name on the hub
    hf-text:NAME     texts, by a sentence encoder, likewise

In reach is what ``QUICKSTUDY_VISION_ENCODER`` names, or what lies in Hugging Face's cache already: nothing is
downloaded unless it is asked for by name.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from torch import nn

from quickstudy.domains.language.encoder import Reader
from quickstudy.errors import InputError
from quickstudy.hub import loading, model_folder, need_transformers
from quickstudy.nets.hfvision import HFVision

__all__ = ["TEXT", "VARIABLE", "VISION", "size_of", "text_network", "vision_in_reach", "vision_network"]

VISION, TEXT = "hf-vision:", "hf-text:"
VARIABLE = "QUICKSTUDY_VISION_ENCODER"
_KNOWN = (
    "facebook/dinov2-small",
    "facebook/dinov2-with-registers-small",
    "facebook/dinov2-base",
    "facebook/dinov2-with-registers-base",
    "facebook/dino-vits16",
    "google/vit-base-patch16-224-in21k",
)
"""Looked for in the cache, in this order: small ones first, and those whose features need no training."""
_NEEDED = ("config.json", "preprocessor_config.json", "model.safetensors")
_USUAL = 224


def vision_in_reach() -> str | None:
    """A vision encoder that needs no download, as a name for ``learner=``; None where there is none.

    Raises:
        InputError: ``QUICKSTUDY_VISION_ENCODER`` names a folder that is not there.
    """
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        try:
            model_folder(named)
        except InputError as error:
            raise InputError(f"{VARIABLE} names no model: {error}") from error
        return VISION + named
    if importlib.util.find_spec("transformers") is None:
        return None
    return next((VISION + name for name in _KNOWN if _cached(name) is not None), None)


def _cached(name: str) -> str | None:
    """The folder of a model that was downloaded before."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(name, file) for file in _NEEDED]
    return str(Path(found[0]).parent) if all(isinstance(path, str) for path in found) and found[0] else None


def vision_network(name: str) -> nn.Module:
    """A frozen vision encoder, for pictures of the size that it was trained on.

    Args:
        name: a folder, or a name on the hub; one that lies in the cache is taken from there.

    Raises:
        InputError: transformers is missing, or there is no such model.
    """
    need_transformers(f"The learner {VISION + name!r}")
    where = model_folder(name)
    if not Path(where).is_dir():
        where = _cached(name) or where
    with loading("the network", name):
        size = _processor_size(where)
        return HFVision(3, size or _USUAL, model=where, resize=size, frozen=True)


def size_of(net: nn.Module | None) -> int | None:
    """Pixels along a side that a vision encoder sees; None of other networks."""
    inner = next((part for part in net.modules() if isinstance(part, HFVision)), None) if net is not None else None
    return None if inner is None else inner.size


def text_network(name: str) -> nn.Module:
    """A frozen sentence encoder that reads letters.

    Args:
        name: ``"minilm"``, a folder, or a name on the hub.

    Raises:
        InputError: a package or the model is missing.
    """
    return Reader(name)


def _processor_size(where: str) -> int | None:
    """Pixels along a side of what the model was trained to be given; None where no file says it."""
    transformers: Any = need_transformers("A vision encoder")
    try:
        about, _ = transformers.ImageProcessingMixin.get_image_processor_dict(where)
    except (OSError, ValueError):
        return None
    for key in ("crop_size", "size") if about.get("do_center_crop", True) else ("size",):
        said = about.get(key)
        if isinstance(said, dict):
            said = said.get("height") or said.get("shortest_edge")
        if isinstance(said, int) and said > 0:
            return said
    return None
