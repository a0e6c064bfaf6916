"""Floor 3: ordinary training on a support set, which fine-tuning and training from scratch share."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import inf
from typing import Literal, TypeVar

import torch
from torch import nn

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, make_optimizer, optimize
from quickstudy.keys import Keys
from quickstudy.learners.learner import task_loss
from quickstudy.learners.parts.headed import HeadedNet, losses_on
from quickstudy.learners.parts.innerloop import FastWeights
from quickstudy.learners.parts.minibatches import minibatches
from quickstudy.learners.parts.options import one_of

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class PlainTraining:
    """How a network is trained on one support set.

    Args:
        steps: optimiser steps.
        lr: their rate.
        batch: rows a minibatch; None: the whole support.
        optimizer: ``"adam"`` or ``"sgd"``.

    Raises:
        InputError: a negative number of steps or rate, a batch of no rows, or another optimiser.
    """

    steps: int
    lr: float
    batch: int | None = None
    optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        one_of("Training on a support set", "optimizer", self.optimizer, ("adam", "sgd"))
        if not (self.steps >= 0 and 0 <= self.lr < inf and (self.batch is None or self.batch >= 1)):
            raise InputError(
                "Training on a support set needs steps and a rate of at least 0, and batches of at least 1 row (or "
                f"None, all of it), received steps={self.steps}, lr={self.lr} and batch={self.batch}."
            )

    def run(self, model: HeadedNet, support: Examples, start: Params, key: Keys | None) -> FastWeights:
        """Weights for each task after training from ``start``.

        Args:
            model: the network and its head.
            support: ``[T, Ns, ...]``.
            start: name -> ``[T, ...]``.
            key: of the minibatches; a fixed one by default.

        Raises:
            InputError: the weights are too coarse for the optimiser.
        """
        keys = (Keys.default(support.n_task) if key is None else key).fold("minibatches")
        losses = [losses_on(model, task_loss, part) for part in minibatches(support, self.batch, self.steps, keys)]
        params, _, _ = optimize(losses, start, make_optimizer(self.optimizer, self.lr))
        with torch.no_grad():
            return FastWeights(params, model.support_moments(params, support))


def reinitialised(module: Module, seed: int) -> Module:
    """A copy of ``module`` with every layer's ``reset_parameters`` called under ``seed``, inner layers first.

    Layers draw from torch's global generator, on the CPU so that devices agree; it is put back afterwards. Running
    statistics begin anew, at mean 0 and variance 1.

    Raises:
        InputError: a layer has parameters of its own but no ``reset_parameters``; the copy would keep its weights.
    """
    device = next(module.parameters()).device
    fresh = copy.deepcopy(module).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, layer in reversed(list(fresh.named_modules())):
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            elif next(layer.parameters(recurse=False), None) is not None:
                raise InputError(
                    f"Cannot start from scratch: the layer {name or 'network'!r} ({type(layer).__name__}) has weights "
                    "of its own and no reset_parameters. Give it that method."
                )
    for name, buffer in fresh.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.fill_(float(name.endswith("var")))
    return fresh.to(device)
