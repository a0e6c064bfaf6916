"""Deep kernel transfer: a Gaussian process on learned features."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples, Real
from quickstudy.errors import InputError
from quickstudy.inner.solvers import GaussianProcess, gp_fit, gp_log_marginal, gp_predict
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.embedder import Embedder, Features
from quickstudy.learners.parts.features import known_size
from quickstudy.learners.parts.kernels import Kernel, KernelName, centred
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.solved import enter_logarithm, present_columns, refuse_state, target_columns
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments, absorb_statistics

LEAST_NOISE = 1e-4


@dataclass(frozen=True, eq=False)
class Posterior:
    """A Gaussian process given the support.

    Args:
        features: of the support, ``[T, Ns, D]``.
        factor: see ``inner.solvers.GaussianProcess``; float64, as are the weights.
        weights: ``[T, Ns, O]``.
        mask: bool ``[T, Ns]``.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    features: Tensor
    factor: Tensor
    weights: Tensor
    mask: Tensor
    moments: Moments


class DKT(AbstractLearner):
    """Learn features and a covariance of them under which each task's labels are likely draws of a Gaussian process.

    M. Patacchiola, J. Turner, E. Crowley, M. O'Boyle, A. Storkey, "Bayesian meta-learning for the few-shot setting via
    deep kernels", NeurIPS 2020.

    adapt:      a = (K + noise I)⁻¹ (Y - mean), with K the kernel of the support's features, Y one column a class, 1 for
                its examples and -1 for the others (or the real values)
    predict:    mean + k(x, support) a, the posterior mean; ``variance`` gives its uncertainty
    meta-loss:  -log p(Y of support and query | features), the marginal likelihood, a row; summed over the columns

    Unlike R2D2, whose solution has the same form, it is trained by how likely the labels are and not by how well
    queries are classified: the features, the kernel's size and length, the mean and the noise fit the whole task at
    once, and support and query play the same part. So there is no inner loop, and a variance comes for free.

    When to choose it: regression, above all where the error bars matter; functions of a kind that a kernel can
    describe (``kernel="spectral"`` for periodic ones). In classification its scores are means of labels from -1 to 1
    and no log-odds: they rank the classes, and their softmax is too flat to be a probability.

    Deviations: the classes share one kernel, mean and noise, where the authors' code has a set for each class number;
    so any number of classes can be learned, and renaming them changes nothing. Of their kernels the Matérn and the
    polynomial ones are not here. All parameters have one learning rate (the authors: 1e-3 for the network, 1e-4 for the
    kernel in classification). Positive numbers are learned by their logarithms (the authors: through a softplus). For
    real targets the noise begins at 0.1, and the spectral kernel's parts at slow random frequencies with widths and
    weights of our own, instead of the authors' library's. Several labels an example are not in the paper.

    Inductive, unless the network's norms look at the other queries.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``; decides what ``learn_noise`` is by default.
        kernel: ``"linear"``, ``"cosine"``, ``"rbf"``, ``"spectral"`` or ``"bn-cosine"``; see
            ``learners.parts.kernels``.
        mixtures: parts of ``"spectral"``.
        noise: variance of labels about the process, to begin with; above 1e-4, below which it cannot fall.
        learn_noise: whether it is trained; by default for real targets alone, as in the authors' code.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: no such target or kernel, a noise that is too small, or a kernel ``"spectral"`` or ``"bn-cosine"``
            on features of unknown size.

    >>> from quickstudy.nets import MLP
    >>> DKT(MLP(1), kernel="rbf").traits.targets
    ('classes', 'multi-label', 'real')
    """

    log_noise: Tensor

    def __init__(
        self,
        net: nn.Module,
        target: Literal["classes", "multi-label", "real"] = "classes",
        *,
        kernel: KernelName = "cosine",
        mixtures: int = 4,
        noise: float = 0.1,
        learn_noise: bool | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("DKT", "target", target, ("classes", "multi-label", "real"))
        if not LEAST_NOISE < noise < inf:
            raise InputError(f"DKT needs a noise above {LEAST_NOISE:g}, received {noise}.")
        size = known_size(net) if kernel == "spectral" else None
        self.embed = Embedder(centred(net) if kernel == "bn-cosine" else net, strategy, features=size)
        self.kernel = Kernel(kernel, size, mixtures=mixtures)
        self.mean = nn.Parameter(torch.zeros(()))
        learned = target == "real" if learn_noise is None else learn_noise
        enter_logarithm(self, "log_noise", noise - LEAST_NOISE, learned=learned)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("classes", "multi-label", "real"), transductive=self.embed.transductive)

    @property
    def noise(self) -> Tensor:
        """Variance of labels about the process."""
        return LEAST_NOISE + self.log_noise.exp()

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Posterior:
        check_support(support, state)
        del key
        refuse_state(state, "DKT")
        return self._posterior(self.embed.support(support), support)

    @override
    def predict(self, state: Posterior, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.weights.shape[2])
        return self._means(state, self.embed.query(state.moments, query), query)

    def variance(self, state: Posterior, query: Examples) -> Tensor:
        """Variance of a new observation at each query, ``[T, Nq]``; the same for all columns.

        Args:
            state: what ``adapt`` returned for these T tasks.
            query: ``[T, Nq, ...]``.
        """
        check_query(query, state)
        features = self.embed.query(state.moments, query).flatten(2)
        return (self._asked(state, features)[1] + self.noise.double()).to(features.dtype)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """Minus the log marginal likelihood of all labels, support and query together, divided by their number."""
        del key
        features, query = self.embed.episode(episode), episode.query
        both = torch.cat([features.support.out, features.query], 1).flatten(2)
        y = torch.cat([self._columns(episode.support), self._columns(query, check=False)], 1)
        mask = torch.cat([episode.support.labelled, query.labelled], 1)
        process = self._process(both, y, mask)
        likely = gp_log_marginal(process, y).masked_fill(~present_columns(query, y.shape[2]), 0.0).sum(1)
        with torch.no_grad():
            outputs = self._means(self._posterior(features.support, episode.support), features.query, query)
        loss = -(likely / mask.sum(1)).to(torch.promote_types(both.dtype, torch.float32))
        return MetaLoss(loss, task_logs(outputs, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.embed.net, carried)

    def _columns(self, examples: Examples, *, check: bool = True) -> Tensor:
        """Labels less the prior mean, ``[T, N, O]`` in float64; a query need not have every class."""
        columns = target_columns(examples, torch.float64, check=check)
        if not isinstance(examples.target, Real):
            columns = 2 * columns - 1
        return columns - self.mean.double()

    def _process(self, features: Tensor, y: Tensor, mask: Tensor) -> GaussianProcess:
        f = features.double()
        return gp_fit(self.kernel(f, f), y, self.noise.double(), mask)

    def _posterior(self, features: Features, support: Examples) -> Posterior:
        out = features.out.flatten(2)
        process = self._process(out, self._columns(support), support.labelled)
        return Posterior(out, process.factor, process.weights, process.mask, features.moments)

    def _asked(self, state: Posterior, features: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean (less the prior's) and variance of the process at these features; float64."""
        f = features.double()
        process = GaussianProcess(state.factor, state.weights, state.mask)
        return gp_predict(process, self.kernel(f, state.features.double()), self.kernel.variance(f))

    def _means(self, state: Posterior, features: Tensor, query: Examples) -> Tensor:
        mean = self.mean.double() + self._asked(state, features.flatten(2))[0]
        return mask_absent(mean.to(features.dtype), query)
