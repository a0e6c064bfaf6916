"""Floor 1: texts of classes, each once, and none that is of two classes."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from quickstudy.data.textfile import Labelled
from quickstudy.errors import DataError

__all__ = ["Corpus", "Twice", "corpus_of"]

Twice: TypeAlias = Literal["refuse", "drop"]
"""What becomes of a text that stands under two labels: refused, or no copy of it is used."""


@dataclass(frozen=True)
class Corpus:
    """Texts by class.

    Args:
        name: of the data set, or of the file.
        texts: label -> texts, in the order of the file.
        repeated: texts that stood there again under the same label and were left out.
        ambiguous: texts that stood under two labels and were left out.
        rare: labels that had too few texts and were left out.
        trained: texts to test on that are trained on and were left out.
    """

    name: str
    texts: Mapping[str, tuple[str, ...]]
    repeated: int = 0
    ambiguous: int = 0
    rare: int = 0
    trained: int = 0

    @property
    def left_out(self) -> dict[str, int]:
        """What was left out, for results; empty where nothing was."""
        counts = {"repeated": self.repeated, "ambiguous": self.ambiguous, "rare": self.rare, "trained": self.trained}
        return {name: count for name, count in counts.items() if count}

    def of(self, labels: Iterable[str]) -> Corpus:
        """These classes alone."""
        return replace(self, texts={label: self.texts[label] for label in labels})

    @property
    def marks(self) -> set[str]:
        """A digest of each text, the same for two that count as the same."""
        return {_mark(text) for texts in self.texts.values() for text in texts}

    def without(self, seen: Container[str]) -> Corpus:
        """To test on: without the texts that are trained on; they count as left out.

        A class of which a single text remains goes, too: nothing could be asked of it.

        Args:
            seen: what :attr:`marks` says of them.
        """
        kept = {label: tuple(text for text in texts if _mark(text) not in seen) for label, texts in self.texts.items()}
        shared = sum(map(len, self.texts.values())) - sum(map(len, kept.values()))
        left = {label: texts for label, texts in kept.items() if len(texts) > 1}
        return replace(self, texts=left, trained=self.trained + shared)


def _mark(text: str) -> str:
    return hashlib.blake2b(alike(text).encode(), digest_size=8).hexdigest()


def alike(text: str) -> str:
    """What two texts have in common that count as the same: all but case, white space and how accents are composed.

    >>> alike("Where  is my card?") == alike("where is my card? ")
    True
    """
    return unicodedata.normalize("NFC", " ".join(text.casefold().split()))


def corpus_of(name: str, rows: Iterable[Labelled], *, twice: Twice = "refuse", least: int | None = None) -> Corpus:
    """Each text once: a copy in the support and another in the query of a task would be answered by looking it up.

    Args:
        name: of the data set, or of the file.
        rows: texts with their labels.
        twice: what becomes of a text under two labels.
        least: classes of fewer texts are left out; None: a class of a single text is refused.

    Raises:
        DataError: a text stands under two labels, two labels differ in case or white space alone, or a class has a
            single text; names the lines.
    """
    first: dict[str, Labelled] = {}
    labels: dict[str, Labelled] = {}
    torn: set[str] = set()
    repeated = 0
    for row in rows:
        same = labels.setdefault(alike(row.label), row)
        if same.label != row.label:  # one class, of which one half could train and the other test
            raise DataError(
                f"Cannot use line {row.line} of {name}: its label {row.label!r} is that of line {same.line}, "
                f"{same.label!r}, but for case or white space. Write both alike, or name two classes apart."
            )
        known = first.setdefault(alike(row.text), row)
        if known is row:
            continue
        repeated += known.label == row.label
        if known.label != row.label:
            if twice == "refuse":
                raise DataError(
                    f"Cannot use line {row.line} of {name}: the text {_short(row.text)} has the label {row.label!r} "
                    f"there and {known.label!r} in line {known.line}. Correct one of them, or leave such texts out: "
                    "--data.twice drop."
                )
            torn.add(alike(row.text))
    texts: dict[str, list[str]] = {}
    for key, row in first.items():
        if key not in torn:
            texts.setdefault(row.label, []).append(row.text)
    single = next((row for row in first.values() if len(texts.get(row.label, ())) == 1), None)
    if least is None and single is not None:
        raise DataError(
            f"Cannot use the label {single.label!r} in line {single.line} of {name}: it has a single text, and a task "
            "needs one to learn from and another to ask for. Add texts, or leave out what is rare: --data.least 10."
        )
    kept = {label: tuple(texts[label]) for label in sorted(texts) if len(texts[label]) >= max(least or 0, 2)}
    return Corpus(name, kept, repeated, len(torn), len(texts) - len(kept))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
