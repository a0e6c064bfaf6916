"""Floor 1: what all data sets of texts share, and texts of one's own.

rows of a file -> Corpus -> tokens, of a vocabulary made from training texts alone -> TextTasks
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from quickstudy.data.classfolders import SHOWN, divide
from quickstudy.data.corpus import Corpus, Twice, alike, corpus_of
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.source import place
from quickstudy.data.textfile import read_texts
from quickstudy.data.texttasks import TextTasks, Written, as_examples, written
from quickstudy.data.tokens import AbstractTokens, HubTokens, Words
from quickstudy.episode import Examples
from quickstudy.errors import DataError, InputError

__all__ = ["AbstractTexts", "Texts"]

_BEFORE = {"validation": ("train",), "test": ("train", "validation")}
"""Role -> those whose texts a learner has met before it."""


class AbstractTexts(ABC):
    """A data set of texts.

    Args:
        tokenizer: ``"words"``; or a Hugging Face tokenizer: a folder, a name on the hub, ``"minilm"``. It must be that
            of the network; see ``data/tokens.py``.
        vocabulary: how many numbers ``"words"`` has.
        length: tokens that are kept of a text.
        rename: the share of words that a training task takes for unknown ones; of ``"words"`` alone.

    Raises:
        InputError: an option that makes no sense.
    """

    name: str
    splits: tuple[str, ...]

    def __init__(self, *, tokenizer: str, vocabulary: int, length: int, rename: float) -> None:
        if length < 2:
            raise InputError(f"Cannot keep length = {length} tokens of a text: expected at least 2.")
        if not 0 <= rename < 1:
            raise InputError(f"Cannot use rename = {rename}: expected a share from 0 up to, but not, 1.")
        self.tokenizer, self.vocabulary, self.length, self.rename = tokenizer, vocabulary, length, rename
        self._written: dict[str, Written] = {}
        self._seen: Mapping[str, Iterable[str]] = {}

    @abstractmethod
    def corpus(self, role: str) -> Corpus:
        """Where a role's texts are from."""

    @abstractmethod
    def labels(self, role: str) -> list[str]:
        """The classes of a role, sorted.

        Raises:
            UnknownName: there is no such role.
        """

    @property
    def shape(self) -> tuple[int, ...]:
        """(length,)."""
        return (self.length,)

    @cached_property
    def tokens(self) -> AbstractTokens:
        """What makes numbers of texts; a vocabulary of words is counted in the training classes alone.

        Raises:
            InputError: there is nothing to count, or the tokenizer is not to be had.
        """
        if self.tokenizer != "words":
            return HubTokens(self.tokenizer)
        if "train" not in self.splits:
            raise InputError(
                f"Cannot make a vocabulary for {self.name}: it has no training texts to count words in. Give the "
                "tokenizer of a pretrained network (--data.tokenizer minilm), or name this file as data.test of the "
                "data that was trained on."
            )
        corpus = self.corpus("train")
        return Words((text for label in self.labels("train") for text in corpus.texts[label]), self.vocabulary)

    @property
    def numbering(self) -> str:
        """Tells vocabularies apart; kept with each run, which is tested with its own alone."""
        return self.tokens.digest

    @property
    def titles(self) -> Mapping[str, str]:
        """What classes are called for people, where that differs from their names."""
        return {}

    @property
    def known(self) -> dict[str, list[str]]:
        """Role -> marks of the texts that train or validate; kept with each run, for :meth:`leave_out`."""
        roles = [role for role in ("train", "validation") if role in self.splits]
        return {role: sorted(self.corpus(role).of(self.labels(role)).marks) for role in roles}

    def leave_out(self, known: Mapping[str, Iterable[str]]) -> None:
        """No task to be tested on shall hold a text that a run has seen, under whichever label.

        Called before the first :meth:`tasks`.

        Args:
            known: what :attr:`known` said of the data that the run was trained on.
        """
        self._seen = known

    def tasks(
        self,
        role: str,
        *,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = None,
        dirichlet: float | None = None,
    ) -> TextTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`."""
        check_role(self, role)
        corpus = self._new(role)
        if role not in self._written:
            self._written[role] = written(corpus, self.tokens, self.length)
        return TextTasks(
            self._written[role],
            data=corpus.name,
            split=role,
            way=way,
            shot=shot,
            query=query,
            seed=seed,
            rename=self.rename if role.startswith("train") else 0.0,
            about={"tokenizer": self.tokenizer, **self._sorts(role, corpus)},
            titles=self.titles,
            dirichlet=dirichlet,
            place=place(self.name),  # whichever file: it may be a copy, or hold more
        )

    def examples(self, texts: Sequence[str], labels: Sequence[int] | None = None, *, way: int) -> Examples:
        """Anyone's texts as one task for a learner that was trained with this vocabulary, or tokenizer.

        Args:
            texts: N of them.
            labels: of each its class, 0 to ``way - 1``, to learn from; None where they are asked for.
            way: how many classes there are.

        Returns:
            Leaves ``[1, N, ...]``, as those of :class:`TextTasks`.

        Raises:
            InputError: no text or an empty one, labels that are not as many as the texts, or one that is out of range.
        """
        return as_examples(texts, labels, way, self.tokens, self.length)

    def _new(self, role: str) -> Corpus:
        """The classes of a role; of one that is tested on, without the texts that a run has seen."""
        corpus = self.corpus(role).of(self.labels(role))
        seen = {mark for use in _BEFORE.get(role, ()) for mark in self._seen.get(use, ())}
        if not seen:
            return corpus
        left = corpus.without(seen)
        if len(left.texts) < 2:
            raise DataError(
                f"Cannot test on {self.name}: the learner was trained on {left.trained} of its texts, and without them "
                f"{'a single label has' if left.texts else 'no label has'} two left. Test on other texts."
            )
        return left

    def _sorts(self, role: str, corpus: Corpus) -> dict[str, Any]:
        """What was left out, and the classes where a hash divided them."""
        del role
        return {"left_out": corpus.left_out} if corpus.left_out else {}


class Texts(AbstractTexts):
    """A file of texts with labels: CSV or TSV with a first line of names, or JSON Lines.

    Args:
        file: ``.csv``, ``.tsv``, ``.tab``, ``.jsonl`` or ``.ndjson``, UTF-8.
        text: its column, or key, of texts.
        label: that of labels.
        split: ``"labels"``: 60 % of the labels train, 15 % validate, 25 % test, at least two of each, chosen by a hash
            of their names, so that the same labels always play the same part; ``"test"``: all labels test, for a
            learner that was trained on other data with a tokenizer of its own.
        test: another file, with the same columns, all of whose labels test; texts that are trained on are left out of
            it, labels that train or validate are refused. The first file's labels then train and validate, as if the
            test labels were not there.
        tokenizer: ``"words"``, or a Hugging Face tokenizer: a folder, a name on the hub, ``"minilm"``.
        vocabulary: how many numbers ``"words"`` has.
        length: tokens that are kept of a text.
        rename: the share of words that a training task takes for unknown ones; of ``"words"`` alone.
        twice: what becomes of a text under two labels: ``"refuse"``, or ``"drop"``, no copy of it is used.
        least: labels of fewer texts are left out; by default nothing is, and a label of a single text is refused.

    Raises:
        InputError: an option that makes no sense.
    """

    name = "texts"

    def __init__(
        self,
        file: Path | None = None,
        *,
        text: str = "text",
        label: str = "label",
        split: Literal["labels", "test"] = "labels",
        test: Path | None = None,
        tokenizer: str = "words",
        vocabulary: int = 8192,
        length: int = 64,
        rename: float = 0.2,
        twice: Twice = "refuse",
        least: int | None = None,
    ) -> None:
        super().__init__(tokenizer=tokenizer, vocabulary=vocabulary, length=length, rename=rename)
        if split == "test" and test is not None:
            raise InputError(
                "Cannot test on two files: with split = 'test' the file itself is tested on. Leave one out."
            )
        self._file, self._test, self._split = file, test, split
        self._columns, self._twice, self._least = (text, label), twice, least
        self.splits = ("test",) if split == "test" else ("train", "validation", "test", "train+validation")

    @property
    def file(self) -> Path:
        """Where the texts are.

        Raises:
            InputError: nobody said it.
        """
        if self._file is None:
            raise InputError(
                "Cannot look for texts: it is not said where. Give a file with a text and a label in each row: "
                "--data.file FILE, or file = in [data]."
            )
        return Path(self._file).expanduser()

    def corpus(self, role: str) -> Corpus:
        """The file, or the other one where a role is tested on it."""
        return self._other if role == "test" and self._test is not None else self._own

    def labels(self, role: str) -> list[str]:
        """The labels of a role, sorted."""
        check_role(self, role)
        return self._roles[role]

    def _read(self, path: Path, name: str) -> Corpus:
        rows = read_texts(path, *self._columns)
        return replace(corpus_of(str(path), rows, twice=self._twice, least=self._least), name=name)

    @cached_property
    def _own(self) -> Corpus:
        return self._read(self.file, self.name)

    @cached_property
    def _other(self) -> Corpus:
        assert self._test is not None
        return self._read(Path(self._test).expanduser(), f"{self.name}, another file").without(self._own.marks)

    @property
    def divided(self) -> dict[str, list[str]]:
        """Role -> its labels; kept with each run."""
        return self._roles

    @cached_property
    def _roles(self) -> dict[str, list[str]]:
        names = sorted(self._own.texts)
        if self._split == "test":
            return {"test": names}
        roles = divide(names)
        if roles is None:
            raise DataError(
                f"Cannot divide the labels of {self.file} into training, validation and test: it has {len(names)} "
                f"({', '.join(names)}), and each part needs two. Add labels, or test a learner that was trained on "
                "other data on all of them: --data.split test."
            )
        if self._test is None:
            return roles
        tested = sorted(self._other.texts)
        if not tested:
            raise DataError(
                f"Cannot test on {self._test}: without the texts that {self.file} has, too, no label has two left. "
                "Give a file of other texts, or name one file alone, whose labels are then divided."
            )
        known = set(map(alike, roles["train+validation"]))
        seen = [label for label in tested if alike(label) in known]
        if seen:
            more = f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else ""
            raise DataError(
                f"Cannot test on {', '.join(map(repr, seen[:SHOWN]))}{more} of {self._test}: {self.file} has labels of "
                "that name to train or validate on, and a learner is tested on classes that it has never seen. Leave "
                "them out of one of the files, rename those that are other classes, or name one file alone, whose "
                "labels are then divided."
            )
        return roles | {"test": tested}

    def _sorts(self, role: str, corpus: Corpus) -> dict[str, Any]:
        divided_by_hash = self._split == "labels" and not (role == "test" and self._test is not None)
        return super()._sorts(role, corpus) | ({"labels": sorted(corpus.texts)} if divided_by_hash else {})
