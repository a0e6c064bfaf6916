"""Floor 5: logistic regression on weighted counts of words, the baseline that needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from typing_extensions import override

from quickstudy.data.texttasks import TextTasks, texts_of
from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.solved import refuse_state

__all__ = ["Frequencies", "TfIdf", "Weighted", "training_frequencies"]


@dataclass(frozen=True)
class Frequencies:
    """In how many texts each word stands.

    Args:
        of_word: word, or two in a row -> texts that have it.
        texts: how many there are.
    """

    of_word: dict[str, int]
    texts: int

    def weight(self, word: str) -> float:
        """The inverse document frequency, as scikit-learn smooths it."""
        return log((1 + self.texts) / (1 + self.of_word.get(word, 0))) + 1


class TfIdf(AbstractLearner):
    """scikit-learn's logistic regression on TF-IDF of words and pairs of words, fitted to each task's support alone.

    K. Spärck Jones, "A statistical interpretation of term specificity and its application in retrieval", Journal of
    Documentation 1972: a word that few texts have says more.

    adapt:      keep the support
    predict:    x = (1 + log n_w) idf_w over the support's words, to length 1; logits = W x + b

    Inductive. It has nothing to train.

    Args:
        c: scikit-learn's C, the inverse of the penalty's strength.
        frequencies: of words in other texts, from which ``idf`` is then; None: of the support alone.

    Raises:
        InputError: c is not above 0.
    """

    def __init__(self, *, c: float = 10.0, frequencies: Frequencies | None = None) -> None:
        super().__init__()
        if not 0 < c < inf:
            raise InputError(f"TF-IDF needs c above 0, received {c}.")
        self.c, self.frequencies = c, frequencies

    @property
    @override
    def traits(self) -> Traits:
        return Traits(trainable=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Examples:
        """The state is the support."""
        del key
        check_support(support, state)
        refuse_state(state, "TF-IDF")
        _check_texts(support)
        return support

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        assert state.y is not None
        known, asked = texts_of(state), texts_of(query)
        logits = torch.zeros(query.n_task, query.n_example, state.max_way)
        for task in range(query.n_task):
            rows = state.labelled[task].tolist()
            texts = [text for text, there in zip(known[task], rows, strict=True) if there]
            labels = state.y[task][state.labelled[task]].cpu().numpy()
            said = self._answer(texts, labels, asked[task])
            logits[task, :, : said.shape[1]] = torch.from_numpy(said)
        return mask_absent(logits.to(query.device), query)

    def _answer(self, texts: Sequence[str], labels: np.ndarray, asked: Sequence[str]) -> np.ndarray:
        from sklearn.linear_model import LogisticRegression

        weighted = Weighted(texts, self.frequencies)
        model = LogisticRegression(C=self.c, max_iter=1000).fit(weighted.rows(texts), labels)
        said = np.atleast_2d(model.decision_function(weighted.rows(asked)).T).T
        return np.concatenate([-said, said], 1) / 2 if said.shape[1] == 1 else said


class Weighted:
    """TF-IDF over the words of some texts.

    Args:
        texts: whose words count.
        frequencies: of these words; None: in these texts.
    """

    def __init__(self, texts: Sequence[str], frequencies: Frequencies | None = None) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        self._counts: Any = CountVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]").fit(texts)
        self.words: list[str] = self._counts.get_feature_names_out().tolist()
        frequencies = frequencies or frequencies_of(texts)
        self.idf = np.array([frequencies.weight(word) for word in self.words])

    def rows(self, texts: Sequence[str]) -> Any:
        """``[n, words]``, sparse, of length 1 each (0 where a text has none of the words)."""
        from sklearn.preprocessing import normalize

        counts = csr_matrix(self._counts.transform(texts), dtype=np.float64)
        counts.data = 1 + np.log(counts.data)
        return normalize(counts.multiply(self.idf[None]).tocsr())


def frequencies_of(texts: Iterable[str]) -> Frequencies:
    """Of words, and of two in a row, in some texts."""
    from sklearn.feature_extraction.text import CountVectorizer

    # The analyser alone: it takes a text apart as the counts of a task do.
    apart = CountVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]").build_analyzer()
    found: dict[str, int] = {}
    n = 0
    for text in texts:
        n += 1
        for word in set(apart(text)):
            found[word] = found.get(word, 0) + 1
    return Frequencies(found, n)


def training_frequencies(training: TextTasks) -> Frequencies:
    """Of the words of all training texts."""
    store, start = training.texts.store, 4 * training.texts.length
    return frequencies_of(row.tobytes().rstrip(b"\0").decode() for row in store.images[:, 0, start:])


def _check_texts(examples: Examples) -> None:
    if not isinstance(examples.x, dict) or "text" not in examples.x:
        raise InputError("TF-IDF reads texts, but these examples have no leaf 'text'. Use it with a data set of texts.")
