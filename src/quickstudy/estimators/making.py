"""Floor 6: learners that nobody has to train: plain ones, on examples as they are or on the features of a network.

tf-idf                                       texts, by their words; classes
words-ridge                                  texts, by their words; numbers
minilm-logistic, minilm-ridge                texts, by MiniLM, where its package is installed
drawings-ridge, pictures-ridge, sounds-ridge numbers, on the features of a shipped learner
hf-vision:NAME, hf-text:NAME                 on the features of a pretrained network; see ``encoders.py``
mfcc-knn, mfcc-logistic                      recordings, by their mel-frequency cepstral coefficients
knn, logistic, ridge, ...                    what the registry has that needs no training
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.domains.language.tfidf import TfIdf
from quickstudy.domains.speech.mfcc import Mfcc
from quickstudy.errors import InputError
from quickstudy.estimators.doubt import network_of, words_of
from quickstudy.estimators.encoders import TEXT, VISION, text_network, vision_network
from quickstudy.learners.knn import KNN
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.logistic import Logistic
from quickstudy.learners.registry import learners
from quickstudy.learners.ridge import Ridge
from quickstudy.recipes.parts import takes
from quickstudy.shipped import shipped, shipped_names

__all__ = ["base_of", "is_made", "made_learner", "made_names"]

_PENALTY = 0.03  # of ridge regression on features of length 1
_C = 10.0  # of logistic regression on them
_MFCC = {"mfcc-knn": KNN, "mfcc-logistic": Logistic}
_SECOND = 8000  # samples of a recording, and as many a second
_BASES = ("drawings", "pictures", "sounds")  # shipped learners whose features a ridge regression may stand on


class Unit(nn.Module):
    """A network's features, brought to length 1, so that a penalty means the same for every network.

    Args:
        net: maps ``[N, ...]`` to features.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """``[N, ...] -> [N, D]``."""
        out: Tensor = self.net(x)
        return F.normalize(out.flatten(1), dim=1)


class Words(nn.Module):
    """Texts by their words, and two in a row, wherever their hashes fall: features of length 1, nothing learned."""

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """``{text [N, B]} -> [N, 4096]``."""
        letters = x["text"].to(torch.uint8).cpu().numpy()
        return words_of([row.tobytes().rstrip(b"\0").decode() for row in letters]).to(x["text"].device).float()


def made_names() -> list[str]:
    """Those that are not in the registry of learners."""
    texts = ["tf-idf", "words-ridge", "minilm-logistic", "minilm-ridge"]
    return [*texts, *_MFCC, *(f"{base}-ridge" for base in _bases())]


def _bases() -> list[str]:
    return [name for name in _BASES if name in shipped_names()]


def base_of(name: str) -> str | None:
    """The shipped learner on whose features a made one stands; None of others."""
    base = name.removesuffix("-ridge")
    return base if base != name and base in _bases() else None


def made_learner(name: str, target: str) -> AbstractLearner:
    """A learner that needs no training, in eval mode.

    Args:
        name: of :func:`made_names` or of the registry.
        target: ``"classes"`` or ``"real"``.

    Raises:
        InputError: it has to be trained, or a package is missing.
        UnknownName: there is none of that name.
    """
    base = base_of(name)
    if base is not None:
        net = network_of(shipped(base).learner)
        assert net is not None
        return Ridge(Unit(copy.deepcopy(net).requires_grad_(False)), penalty=_PENALTY).eval()
    if name.startswith(VISION):
        return _on(Unit(vision_network(name.removeprefix(VISION))), target)
    if name.startswith(TEXT):
        return _on(text_network(name.removeprefix(TEXT)), target)
    if name == "tf-idf":
        return TfIdf().eval()
    if name == "words-ridge":
        return Ridge(Words(), penalty=_PENALTY).eval()
    if name in ("minilm-logistic", "minilm-ridge"):
        return _on(text_network("minilm"), "classes" if name == "minilm-logistic" else "real")
    if name in _MFCC:
        on_coefficients: AbstractLearner = _MFCC[name](Mfcc((_SECOND,), rate=_SECOND))
        return on_coefficients.eval()
    return _registered(name, target).eval()


def _on(net: nn.Module, target: str) -> AbstractLearner:
    """A plain learner on features of length 1."""
    return (Logistic(net, c=_C) if target == "classes" else Ridge(net, penalty=_PENALTY)).eval()


def is_made(name: str) -> bool:
    """Whether :func:`made_learner` knows it."""
    return name in (*made_names(), *learners.names()) or name.startswith((VISION, TEXT))


def _registered(name: str, target: str) -> AbstractLearner:
    cls = learners.get(name)
    try:
        learner: AbstractLearner = cls(target=target) if takes(cls, "target") else cls()
        needs = learner.traits.trainable
    except TypeError:  # it wants a network
        needs = True
    if needs:
        raise InputError(
            f"The learner {name!r} is made of weights that have to be meta-trained first. Give the folder of a run "
            f"or of a saved learner, or one that is shipped: {', '.join(shipped_names()) or 'none'}."
        )
    return learner
