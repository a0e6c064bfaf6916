"""Simple CNAPS."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples, may_read
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import (
    AbstractLearner,
    MetaLoss,
    Traits,
    check_episode,
    check_query,
    check_support,
    task_logs,
)
from quickstudy.learners.parts.baseclassifier import BaseClassifier
from quickstudy.learners.parts.classwise import check_every_class, class_means, mask_absent, membership
from quickstudy.learners.parts.embedder import Embedder, EpisodeFeatures, Features, check_features
from quickstudy.learners.parts.features import feature_size, known_size
from quickstudy.learners.parts.filmgenerator import FilmGenerator, TaskEncoder
from quickstudy.nets.adapters import Film
from quickstudy.nets.apply import Params, Strategy, apply
from quickstudy.nets.norms import Moments, absorb_statistics, needs_support_moments


@dataclass(frozen=True, eq=False)
class Gaussians:
    """A mean and a covariance for each class.

    Args:
        support: what they were estimated from; a later ``adapt`` adds to it.
        means: μ_k, ``[T, W, D]``.
        factors: lower triangular L with L Lᵀ = Q_k, ``[T, W, D, D]``.
        params: the network's FiLM weights for each task, by name ``[T, ...]``; empty without FiLM.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    support: Examples
    means: Tensor
    factors: Tensor
    params: Params
    moments: Moments


class SimpleCNAPS(AbstractLearner):
    """Prototypes with a covariance for each class, on a pretrained network that the support modulates.

    P. Bateni, R. Goyal, V. Masrani, F. Wood, L. Sigal, "Improved few-shot visual classification", CVPR 2020. The
    modulation is that of CNAPs (J. Requeima, J. Gordon, J. Bronskill, S. Nowozin, R. Turner, NeurIPS 2019).

    adapt:      τ = mean over the support of a set encoder; FiLM scales and shifts of the frozen network from τ;
                Q_k = λ_k Σ_k + (1 - λ_k) Σ + β I with λ_k = n_k / (n_k + 1), Σ_k the covariance of class k's features
                and Σ that of the whole support (divided by n - 1; 0 for a single example)
    predict:    logits_k = -1/2 (z - μ_k)ᵀ Q_k⁻¹ (z - μ_k)
    meta-loss:  cross-entropy of the query + film_penalty · |factors of the FiLM generator|²

    A prototypical network is the case Q_k = I/2. The network is first trained on plain batches and then stays as it is;
    tasks train the set encoder and the FiLM generator alone.

    When to choose it: with many shots, or with tasks that differ much from each other (several data sets), where
    classes have shapes of their own and features need to be turned to the task. With one shot a class has no covariance
    of its own.

    Deviations: the authors' code leaves out the factor 1/2, and for a single example it takes the variance *over
    features* for Σ_k and adds that number to every entry; here Σ_k = 0, as the formula says. The penalty is added to
    the mean loss of a step's tasks; in the authors' code it is added once for each of them, so that with 16 tasks a
    step their 0.001 is 0.016 here. Networks for scales and shifts share no layer, and the set encoder has four blocks
    instead of five. Without FiLM (``film=False``) tasks train the network itself, which the paper does not do.

    Inductive.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        example: shape of one example, for the set encoder.
        classes: how many training classes plain batches have.
        film: generate FiLM weights; then tasks do not train the network.
        beta: β, above 0: without it covariances of few examples cannot be inverted.
        film_penalty: weight of the penalty.
        task_features: size of τ.
        out_features: D, where the network does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: β is not above 0, another number is out of range, or the shape of an example is not known; with
            ``classes``, the size of the features.

    >>> from quickstudy.nets import MLP
    >>> SimpleCNAPS(MLP(4), example=(4,)).traits.phases
    ('batches', 'episodes')
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        example: tuple[int, ...] | dict[str, tuple[int, ...]] | None = None,
        classes: int | None = None,
        film: bool = True,
        beta: float = 1.0,
        film_penalty: float = 0.001,
        task_features: int = 64,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if not 0 < beta < inf:
            raise InputError(f"SimpleCNAPS needs beta above 0, or its covariances have no inverse, received {beta}.")
        if not (0 <= film_penalty < inf and task_features >= 1):
            raise InputError(
                "SimpleCNAPS needs a film_penalty of at least 0 and at least 1 of task_features, received "
                f"{film_penalty} and {task_features}."
            )
        self.embed = Embedder(net, strategy)
        self.beta, self.film_penalty = beta, film_penalty
        # Where nobody says how many classes there are, no classifier is built and the size need not be known.
        size = known_size(net, out_features) or 1 if classes is None else feature_size(net, out_features)
        self.classifier = BaseClassifier(size, classes)
        self.film: Film | None = None
        if film:
            self.film = Film(net).requires_grad_(False)  # which layers; the numbers come from the generator
            self.encoder = TaskEncoder(example, task_features)
            self.generator = FilmGenerator(self.film, task_features)

    @override
    def train(self, mode: bool = True) -> SimpleCNAPS:
        """As usual, but a network that only plain batches train keeps its running statistics in between."""
        super().train(mode)
        if self.film is not None:
            self.embed.net.eval()
        return self

    @property
    @override
    def traits(self) -> Traits:
        # With FiLM the network is held fixed while tasks are trained on.
        return Traits(
            transductive=self.embed.transductive,
            incremental=not self.embed.transductive,
            exact_meta_gradient=self.film is None,
            phases=("batches", "episodes"),
        )

    @override
    def adapt(self, support: Examples, *, state: Gaussians | None = None, key: Keys | None = None) -> Gaussians:
        check_support(support, state)
        del key
        if state is not None:
            support = state.support.followed_by(support)
        params = self._weights(support)
        return self._estimate(self._features(params, support), support, params)

    @override
    def predict(self, state: Gaussians, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state.support)
        return _logits(state, self._features(state.params, query, state.moments).out, query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss and the penalty; without FiLM, support and query go through the network in one pass."""
        del key
        check_episode(episode)
        support, query = episode.support, episode.query
        params = self._weights(support)
        if self.film is None:
            features = self.embed.episode(episode)
        else:
            known = self._features(params, support)
            features = EpisodeFeatures(known, self._features(params, query.unlabelled(), known.moments).out, {})
        outputs = _logits(self._estimate(features.support, support, params), features.query, query)
        loss = self.loss(outputs, query)
        if self.film is not None:
            loss = loss + self.film_penalty * self.generator.penalty()
        return MetaLoss(loss, task_logs(outputs, query), features.carried)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        """Plain classification, which trains the network."""
        del key
        net = self.embed.net
        flags = {layer: layer.training for layer in net.modules()}
        net.train(self.training)
        try:
            applied = apply(net, batch.x, mask=batch.mask, strategy=self.embed.strategy)
        finally:
            for layer, flag in flags.items():
                layer.training = flag
        return self.classifier.batch_loss(applied, batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.embed.net, carried)

    def _weights(self, support: Examples) -> Params:
        """The frozen network's weights for each task; none of its own without FiLM."""
        if self.film is None:
            return {}
        check_every_class(membership(support).sum(1), support)  # before an encoder that needs a labelled row
        frozen = {name: p.detach() for name, p in self.embed.net.named_parameters()}
        fixed = {name: p.expand(support.n_task, *p.shape) for name, p in frozen.items()}
        return fixed | self.film.expand(frozen, self.generator(self.encoder(support)))

    def _features(self, params: Params, examples: Examples, moments: Moments | None = None) -> Features:
        net = self.embed.net
        given = moments if needs_support_moments(net) else None
        applied = apply(
            net, examples.x, params=params or None, mask=examples.mask, given=given, strategy=self.embed.strategy
        )
        check_features(applied.out)
        return Features(applied.out, applied.moments)

    def _estimate(self, features: Features, support: Examples, params: Params) -> Gaussians:
        z = features.out.flatten(2)
        z = z.to(torch.promote_types(z.dtype, torch.float32))  # there is no factorisation in half precision
        means, counts = class_means(z, support)  # [T, W, D], [T, W]
        counted = support.labelled
        weights = membership(support).to(z.dtype)  # [T, N, W]
        from_class = z - weights @ means
        class_scatter = torch.einsum("tnwd,tne->twde", weights[..., None] * from_class[:, :, None], from_class)
        rows = counted.to(z.dtype)[..., None]  # [T, N, 1]
        from_all = (z - (z * rows).sum(1, keepdim=True) / rows.sum(1, keepdim=True)) * rows
        task_scatter = from_all.transpose(1, 2) @ from_all  # [T, D, D]
        covariances = class_scatter / (counts - 1).clamp(min=1)[..., None, None]
        covariance = task_scatter / (rows.sum((1, 2)) - 1).clamp(min=1)[:, None, None]
        blend = (counts / (counts + 1))[..., None, None]
        identity = torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
        q = blend * covariances + (1 - blend) * covariance[:, None] + self.beta * identity
        return Gaussians(support, means, self._factored(q), params, features.moments)

    def _factored(self, q: Tensor) -> Tensor:
        """The Cholesky factors of covariances ``[T, W, D, D]``.

        Raises:
            InputError: one is not positive definite as far as the precision goes.
        """
        factors: Tensor
        factors, failed = torch.linalg.cholesky_ex(q)
        if may_read() and len(wrong := failed.nonzero()):
            task, label = (int(place) for place in wrong[0])
            raise InputError(
                f"Cannot invert the covariance of class {label} of task {task}: its features are not finite, or so "
                f"large that beta={self.beta} is lost beside them. Use a larger beta, a network that normalises, or "
                "float64; in training, a lower learning rate."
            )
        return factors


def _logits(state: Gaussians, features: Tensor, query: Examples) -> Tensor:
    """Minus half the squared Mahalanobis distances, ``[T, Nq, W]``."""
    away = features.flatten(2).to(state.means.dtype)[:, None] - state.means[:, :, None]  # [T, W, Nq, D]
    whitened = torch.linalg.solve_triangular(state.factors, away.transpose(2, 3), upper=False)
    return mask_absent(-0.5 * whitened.square().sum(2).transpose(1, 2).to(features.dtype), query)
