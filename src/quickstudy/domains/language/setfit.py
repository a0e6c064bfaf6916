"""Floor 5: contrastive fine-tuning of an encoder on a few texts, then logistic regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.episode import Examples, Inputs, map_leaves
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support
from quickstudy.learners.parts.classwise import check_every_class, mask_absent, membership
from quickstudy.learners.parts.solved import refuse_state

__all__ = ["SetFit", "Tuned"]

_STEPS = 20 * 2 / 16 / 2  # for each text


@dataclass(frozen=True, eq=False)
class Tuned:
    """An encoder and a linear classifier for each task.

    Args:
        weights: of the encoder, by name, ``[T, ...]``.
        weight: ``[T, W, D]``.
        bias: ``[T, W]``.
    """

    weights: dict[str, Tensor]
    weight: Tensor
    bias: Tensor


class SetFit(AbstractLearner):
    """Fine-tune an encoder so that texts of one class come near each other, then fit logistic regression.

    L. Tunstall et al., "Efficient few-shot learning without prompts", arXiv:2209.11055, 2022.

    adapt:      θ <- argmin Σ_{i<=j} (cos(f(x_i), f(x_j)) - [y_i = y_j])²; then W, b on f(x) / |f(x)|
    predict:    logits = W f(x) / |f(x)| + b

    Deviations: all pairs of the support in each step, of which the authors' code draws 16; Adam with a constant rate,
    for half as many steps as theirs, whose rate falls to 0; no dropout.

    Inductive. It has nothing to train.

    Args:
        net: maps a batch of texts to features.
        steps: of fine-tuning; None: 5/4 for each text of the support, half of the authors' (20 equal and 20 unequal
            pairs a text, once, 16 at a time).
        lr: of AdamW.
        c: the inverse of the penalty's strength of logistic regression.

    Raises:
        InputError: no step, or a rate that is not above 0.
    """

    def __init__(self, net: nn.Module, *, steps: int | None = None, lr: float = 2e-5, c: float = 1.0) -> None:
        super().__init__()
        if (steps is not None and steps < 1) or not lr > 0 or not c > 0:
            raise InputError(f"SetFit needs a step and rates above 0, received steps={steps}, lr={lr}, c={c}.")
        self.net, self.steps, self.lr, self.c = net, steps, lr, c

    @property
    @override
    def traits(self) -> Traits:
        return Traits(trainable=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Tuned:
        del key
        check_support(support, state)
        refuse_state(state, "SetFit")
        check_every_class(membership(support).sum(1), support)
        tuned = [self._tuned(support, task) for task in range(support.n_task)]
        weights, weight, bias = zip(*tuned, strict=True)
        stacked = {name: torch.stack([one[name] for one in weights]) for name in weights[0]}
        return Tuned(stacked, torch.stack(weight), torch.stack(bias))

    @override
    def predict(self, state: Tuned, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.weight.shape[1])
        logits = []
        for task in range(query.n_task):
            mine = {name: value[task] for name, value in state.weights.items()}
            with torch.no_grad():
                features = self._features(mine, _rows(query.x, task))
            logits.append(features @ state.weight[task].T + state.bias[task])
        return mask_absent(torch.stack(logits), query)

    def _features(self, weights: dict[str, Tensor], x: Inputs) -> Tensor:
        out: Tensor = functional_call(self.net, weights, (x,))
        return F.normalize(out.flatten(1), dim=1)

    def _tuned(self, support: Examples, task: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        from sklearn.linear_model import LogisticRegression

        assert support.y is not None
        there = support.labelled[task]
        x, y = map_leaves(lambda leaf: leaf[task][there], support.x), support.y[task][there]
        alike = (y[:, None] == y).to(torch.float32)
        pairs = torch.ones_like(alike).triu().bool()
        weights = {n: p.detach().clone().requires_grad_() for n, p in self.net.named_parameters()}
        steps = math.ceil(_STEPS * len(y)) if self.steps is None else self.steps
        optimizer = torch.optim.AdamW(list(weights.values()), lr=self.lr)
        with torch.enable_grad():
            for _ in range(steps):
                features = self._features(weights, x)
                loss = (features @ features.T - alike)[pairs].square().mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        found = {name: weight.detach() for name, weight in weights.items()}
        with torch.no_grad():
            features = self._features(found, x)
        way, rows = support.max_way, features.double().cpu().numpy()
        labels = y.cpu().numpy()
        model = LogisticRegression(C=self.c, max_iter=1000).fit(rows, labels)
        w, b = model.coef_, model.intercept_
        if len(w) == 1:
            w, b = np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2
        weight, bias = features.new_zeros(way, rows.shape[1]), features.new_zeros(way)
        weight[: len(w)], bias[: len(b)] = torch.from_numpy(w).to(weight), torch.from_numpy(b).to(bias)
        return found, weight, bias


def _rows(x: Inputs, task: int) -> Inputs:
    return map_leaves(lambda leaf: leaf[task], x)
