"""Floor 1: what people ask a machine for: CLINC150 and BANKING77.

S. Larson et al., "An evaluation dataset for intent classification and out-of-scope prediction", EMNLP-IJCNLP 2019.
I. Casanueva, T. Temčinas, D. Gerz, M. Henderson, I. Vulić, "Efficient intent detection with dual sentence encoders",
2nd Workshop on NLP for ConvAI, ACL 2020.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from quickstudy.data.classfolders import divide
from quickstudy.data.corpus import Corpus, corpus_of
from quickstudy.data.dataset import check_role
from quickstudy.data.textfile import Labelled, read_texts
from quickstudy.data.texts import AbstractTexts
from quickstudy.errors import DataError
from quickstudy.files import data_root

__all__ = ["Banking77", "Clinc150"]

# Banking and credit cards test, so that BANKING77 is as far from training as they are; then work, validation (travel)
# and training in the order of the BLAKE2b digests of the domains' names.
_DOMAINS = {
    "train": ("auto_and_commute", "home", "kitchen_and_dining", "meta", "small_talk", "utility"),
    "validation": ("travel",),
    "test": ("banking", "credit_cards", "work"),
}
_ROLES = ("train", "validation", "test", "train+validation")


class _Intents(AbstractTexts):
    """Both data sets: trained on one, tested on either."""

    splits = _ROLES

    def __init__(
        self,
        root: Path | None = None,
        *,
        test: Literal["own", "clinc150", "banking77"] = "own",
        tokenizer: str = "words",
        vocabulary: int = 8192,
        length: int = 64,
        rename: float = 0.2,
    ) -> None:
        super().__init__(tokenizer=tokenizer, vocabulary=vocabulary, length=length, rename=rename)
        self._root, self._test = data_root(root), self.name if test == "own" else test

    @override
    def corpus(self, role: str) -> Corpus:
        return self._other if role == "test" and self._test != self.name else self._own

    @override
    def labels(self, role: str) -> list[str]:
        check_role(self, role)
        if role == "test" and self._test != self.name:
            return sorted(self._other.texts)
        return _roles(self.name, self._root, self._own)[role]

    @cached_property
    def _own(self) -> Corpus:
        return _CORPORA[self.name](self._root)

    @cached_property
    def _other(self) -> Corpus:
        return _CORPORA[self._test](self._root).without(self._own.marks)

    @override
    def _sorts(self, role: str, corpus: Corpus) -> dict[str, Any]:
        return super()._sorts(role, corpus) | ({"trained_on": self.name} if corpus.name != self.name else {})


class Clinc150(_Intents):
    """150 intents in 10 domains, 150 queries each; out-of-scope queries are left out.

    Domains are disjoint: six train, travel validates, banking, credit cards and work test. The published lists divide
    the queries of each intent, all intents being in all of them; they are used together here.

    Args:
        root: the folder that holds ``clinc150/``.
        test: what is tested on: ``"own"``, or ``"banking77"``, all 77 intents of it.
        tokenizer: ``"words"``, or a Hugging Face tokenizer: a folder, a name on the hub, ``"minilm"``.
        vocabulary: how many numbers ``"words"`` has.
        length: tokens that are kept of a query.
        rename: the share of words that a training task takes for unknown ones; of ``"words"`` alone.

    Raises:
        InputError: an option that makes no sense.
    """

    name = "clinc150"


class Banking77(_Intents):
    """77 intents of a bank's customers, 13,083 queries: 46 intents train, 12 validate, 19 test, by a hash of the names.

    The published lists divide the queries of each intent; they are used together here. Options are those of
    :class:`Clinc150`, whose 150 intents it may be tested on, too.
    """

    name = "banking77"


def _roles(name: str, root: Path, corpus: Corpus) -> dict[str, list[str]]:
    if name == "banking77":
        parts = divide(corpus.texts)
        assert parts is not None, "77 intents"
        return parts
    domains = read_json(root / "clinc150" / "domains.json", "CLINC150")
    try:
        found = {role: sorted(intent for part in parts for intent in domains[part]) for role, parts in _DOMAINS.items()}
    except (KeyError, TypeError) as error:
        raise foreign(root / "clinc150" / "domains.json", "CLINC150") from error
    missing = sorted({intent for part in found.values() for intent in part} - set(corpus.texts))
    if missing:
        raise DataError(f"Cannot use CLINC150: there is no query of the intent {missing[0]!r}. Copy the data again.")
    return found | {"train+validation": sorted(found["train"] + found["validation"])}


def _clinc(root: Path) -> Corpus:
    path = root / "clinc150" / "data_full.json"
    parts = read_json(path, "CLINC150")
    try:
        pairs = [(text, label) for part in ("train", "val", "test") for text, label in parts[part]]
        rows = [Labelled(text.strip(), str(label), number) for number, (text, label) in enumerate(pairs, 1)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise foreign(path, "CLINC150") from error
    return replace(corpus_of(str(path), rows, twice="drop"), name="clinc150")


def _banking(root: Path) -> Corpus:
    folder = root / "banking77"
    if not folder.is_dir():
        raise _missing(folder / "train.csv", "BANKING77")
    rows = [row for part in ("train.csv", "test.csv") for row in read_texts(folder / part, "text", "category")]
    return replace(corpus_of(str(folder), rows, twice="drop"), name="banking77")


_CORPORA = {"clinc150": _clinc, "banking77": _banking}


def read_json(path: Path, title: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise _missing(path, title) from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(f"Cannot read {path}: it is no JSON ({error}). Copy the file again.") from error


def _missing(path: Path, title: str) -> DataError:
    return DataError(
        f"Cannot find {title}: there is no file {path}. Say with --data-root or QUICKSTUDY_DATA which folder holds "
        f"{path.parent.name}/; where it is published stands in docs/domains/language.md."
    )


def foreign(path: Path, title: str) -> DataError:
    return DataError(f"Cannot use {path}: it is not the published file of {title}. Copy it again.")
