"""In-context learning of tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys, shuffle
from quickstudy.learners.learner import (
    AbstractLearner,
    MetaLoss,
    Traits,
    check_episode,
    check_query,
    check_support,
    task_logs,
)
from quickstudy.learners.parts.classwise import check_every_class, class_sums, mask_absent
from quickstudy.learners.parts.features import flat_features
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.rows import check_fits, known_outputs, label_rows
from quickstudy.learners.parts.solved import refuse_state
from quickstudy.learners.parts.transformer import Cache, Transformer, simplex


@dataclass(frozen=True, eq=False)
class Views:
    """How a table is laid before the transformer: E times, its columns and classes in other places each time.

    Args:
        columns: int64 ``[T, E, max_features]``, which (padded) column stands in each place.
        slots: int64 ``[T, E, max_way]``, the label embedding of each class.
    """

    columns: Tensor
    slots: Tensor


@dataclass(frozen=True, eq=False)
class Table:
    """A support table as it was read.

    Args:
        keys: ``[T, E, layers, Ns, width]``; see ``parts.transformer``.
        values: likewise.
        there: bool ``[T, E, Ns]``.
        views: see there.
        mean: ``[T, 1, F]``, of each column over the support.
        scale: ``[T, 1, F]``, one over each column's deviation, 0 for columns that say nothing.
        target: ``[T, 2, 1, D]``, mean and deviation of real targets over the support (0 and 1 for classes).
    """

    keys: Tensor
    values: Tensor
    there: Tensor
    views: Views
    mean: Tensor
    scale: Tensor
    target: Tensor


class TabularInContext(AbstractLearner):
    """A small transformer, trained on synthetic tables, that reads a table's labelled rows and labels new ones.

    S. Müller, N. Hollmann, S. Pineda Arango, J. Grabocka, F. Hutter, "Transformers can do Bayesian inference" (PFN),
    ICLR 2022; N. Hollmann, S. Müller, K. Eggensperger, F. Hutter, "TabPFN: a transformer that solves small tabular
    classification problems in a second", ICLR 2023.

    adapt:      columns standardised by the support, z = (x - m) / s, cut at 10 either way; row tokens A z_i + B e(y_i)
                attend to each other
    predict:    the token A z + u attends to the support and itself; logits_c = <P t, e_c>, or P t s_y + m_y; averaged
                over ``views``, in each of which columns and classes stand in other places
    meta-loss:  cross-entropy of the queries (squared error for real targets) on tables drawn from a prior,
                ``data.tables``; with enough of them predict tends to the posterior mean under that prior, or for
                classes to their posterior probabilities

    Unlike ``in-context`` it takes no network: it reads any table of up to ``max_features`` columns, of units unknown.

    When to choose it: small tables of numbers, up to some hundred rows, where nothing may be trained or tuned on the
    task. It is trained once, on tables that no one has to collect. For tables of thousands of rows take boosted trees.

    Deviations: a prior of our own, a far smaller model and training than TabPFN's; labels as corners of a simplex (see
    ``in-context``) instead of numbers; real targets by their mean instead of the histogram of PFNs; no missing values,
    no categories, no power transform in half of the views.

    Inductive: a prediction depends on the support and that query alone. The order of rows does not matter; that of
    columns and classes matters the less the more ``views`` there are.

    Args:
        outputs: the way, or D.
        target: ``"classes"`` or ``"real"``.
        max_features: the most columns.
        max_way: the largest way that can be learned; ``outputs`` by default.
        width: of a token.
        layers: of the transformer.
        heads: of attention; divides ``width``.
        views: E, over which ``predict`` averages; training has one, drawn at random.

    Raises:
        InputError: sizes that are missing or do not fit.

    >>> sum(p.numel() for p in TabularInContext(10).parameters()) < 260_000
    True
    """

    corners: Tensor

    def __init__(
        self,
        outputs: int | None = None,
        target: Literal["classes", "real"] = "classes",
        *,
        max_features: int = 32,
        max_way: int | None = None,
        width: int = 96,
        layers: int = 3,
        heads: int = 4,
        views: int = 8,
    ) -> None:
        super().__init__()
        if min(max_features, views) < 1:
            raise InputError(
                f"TabularInContext needs at least one column and one view, received {max_features} and {views}."
            )
        one_of("TabularInContext", "target", target, ("classes", "real"))
        self.target, self.max_features, self.views = target, max_features, views
        self.outputs = known_outputs(outputs if max_way is None or target == "real" else max_way, "TabularInContext")
        self.of_columns = nn.Linear(max_features, width)
        self.of_label = nn.Linear(self.outputs, width, bias=False)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.transformer = Transformer(width, layers, heads)
        self.to_label = nn.Linear(width, self.outputs, bias=target == "real")
        self.register_buffer("corners", simplex(self.outputs), persistent=False)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=(self.target,), any_way=self.target == "classes", renames=False)

    @override
    def adapt(self, support: Examples, *, state: Table | None = None, key: Keys | None = None) -> Table:
        """Read the support.

        Raises:
            InputError: a state is given: rows attend to each other, so the whole support must be read at once.
        """
        check_support(support, state)
        refuse_state(state, "TabularInContext")
        del key
        return self._read(support, self._fixed_views(support))

    @override
    def predict(self, state: Table, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.views.slots.shape[2])
        views = state.views.columns.shape[1]
        z = self._standardised(query, state.mean, state.scale)
        tokens = self.of_columns(_laid_out(z, state.views.columns)) + self.unknown
        cache = Cache(*(part.flatten(0, 1) for part in (state.keys, state.values, state.there)))
        said = self.to_label(self.transformer.query(tokens, cache))  # [T * E, Nq, outputs]
        said = said.view(query.n_task, views, *said.shape[1:])
        if isinstance(query.target, Classes):
            corners = self.corners[state.views.slots[..., : query.max_way]]  # [T, E, W, outputs]
            return mask_absent((said @ corners.transpose(2, 3)).mean(1), query)
        mean, deviation = state.target.unbind(1)
        out: Tensor = said.mean(1) * deviation + mean
        return out.to(said.dtype)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss from one view, drawn at random."""
        check_episode(episode)
        support, query = episode.support, episode.query
        keys = (Keys.default(episode.n_task) if key is None else key).fold("views")
        drawn = [
            torch.from_numpy(shuffle(keys.bits(n, stream), np.full(len(keys), n))).to(support.device)[:, None]
            for stream, n in enumerate((self.max_features, self.outputs))
        ]
        outputs = self.predict(self._read(support, Views(*drawn)), query.unlabelled())
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query))

    def _fixed_views(self, support: Examples) -> Views:
        """The same for every task: as it is, then in random places."""
        orders = []
        for name, n in (("columns", self.max_features), ("slots", self.outputs)):
            words = Key.of(0, "tabular-in-context", name).bits(np.arange(self.views), n)
            order = shuffle(words, np.full(self.views, n))
            order[0] = np.arange(n)
            orders.append(torch.from_numpy(order).to(support.device).expand(support.n_task, -1, -1))
        return Views(*orders)

    def _read(self, support: Examples, views: Views) -> Table:
        check_fits(support, self.target, self.outputs)
        mean, deviation = _moments(self._columns(support), support.labelled)
        scale = torch.where(deviation > 0, 1 / torch.where(deviation > 0, deviation, 1.0), 0.0)
        z = self._standardised(support, mean, scale)
        labels, target = self._labels(support, views, z)
        tokens = self.of_columns(_laid_out(z, views.columns)) + self.of_label(labels.flatten(0, 1))
        n_view = views.columns.shape[1]
        there = support.labelled[:, None].expand(-1, n_view, -1)
        cache = self.transformer.support(tokens, there.flatten(0, 1))
        keys, values = (part.view(-1, n_view, *part.shape[1:]) for part in (cache.keys, cache.values))
        return Table(keys, values, there, views, mean, scale, target)

    def _labels(self, support: Examples, views: Views, like: Tensor) -> tuple[Tensor, Tensor]:
        """Label embeddings ``[T, E, Ns, outputs]``, and mean and deviation of real targets ``[T, 2, 1, D]``."""
        if isinstance(support.target, Classes):
            check_every_class(class_sums(like[..., :1], support)[1], support)
            way = support.max_way
            shown = label_rows(support, way, like)[:, None] @ self.corners[views.slots[..., :way]]
            return shown, torch.stack([like.new_zeros(len(like), 1, 1), like.new_ones(len(like), 1, 1)], 1)
        assert support.y is not None
        y = label_rows(support, self.outputs, support.y)
        mean, deviation = _moments(y, support.labelled)  # of one number alone 0, and that number is what is said
        shown = torch.where(support.labelled[..., None], (y - mean) / torch.where(deviation > 0, deviation, 1.0), 0.0)
        shown = shown.to(like.dtype)
        return shown[:, None].expand(-1, views.columns.shape[1], -1, -1), torch.stack([mean, deviation], 1)

    def _columns(self, examples: Examples) -> Tensor:
        """``[T, N, F]`` in their own dtype, zero on padding.

        Raises:
            InputError: more columns than there is room for.
        """
        x = flat_features(None, examples)
        if x.shape[2] > self.max_features:
            raise InputError(
                f"Cannot read tables of {x.shape[2]} columns: this learner has room for {self.max_features}. "
                "Leave out columns, or meta-train one with a larger max_features."
            )
        return x

    def _standardised(self, examples: Examples, mean: Tensor, scale: Tensor) -> Tensor:
        """Columns by the support's moments, cut at 10 deviations and filled up to ``max_features`` with zeros."""
        x = self._columns(examples)
        if x.shape[2] != mean.shape[2]:
            raise InputError(
                f"The support had {mean.shape[2]} columns, these rows have {x.shape[2]}. Give every row all columns."
            )
        # A row's length shall not depend on how many columns there are.
        weight = (self.max_features / (scale > 0).sum(2, keepdim=True).clamp(min=1)) ** 0.5
        z = ((x - mean) * scale).clamp(-10, 10) * weight
        z = torch.where(examples.real[..., None], z, 0.0).to(self.of_columns.weight.dtype)
        return F.pad(z, (0, self.max_features - z.shape[2]))


def _laid_out(z: Tensor, columns: Tensor) -> Tensor:
    """Each view's columns in their places: ``[T, N, F]`` and ``[T, E, F]`` to ``[T * E, N, F]``."""
    places = columns[:, :, None].expand(-1, -1, z.shape[1], -1)
    return z[:, None].expand(-1, columns.shape[1], -1, -1).gather(3, places).flatten(0, 1)


def _moments(values: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[T, 1, F]``, in float64, of the rows that are counted ``[T, N]``.

    A deviation is 0 where it is no more than the round-off of the values themselves: a column of one number.
    """
    exact, counts = values.double(), counted[..., None]
    # Seen from one of its own values, a column of one number deviates by exactly nothing.
    origin = torch.where(counts, exact, torch.inf).amin(1, keepdim=True).nan_to_num(posinf=0.0)
    n = counts.sum(1, keepdim=True).clamp(min=1)
    away = torch.where(counts, exact - origin, 0.0)
    mean = away.sum(1, keepdim=True) / n
    deviation = (torch.where(counts, away - mean, 0.0).square().sum(1, keepdim=True) / n).sqrt()
    mean = origin + mean
    told = deviation > torch.finfo(values.dtype).eps * mean.abs()
    return mean, torch.where(told, deviation, 0.0)
