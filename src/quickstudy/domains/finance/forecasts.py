"""Forecasts of volatility that know the formulas of the field: last value, EWMA, HAR, GARCH.

Each answers as the tasks ask (``data.windows``): the logarithm of the mean variance of the next h days, relative to the
share's level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter
from torch import Tensor
from typing_extensions import override

from quickstudy.data.bars import CLOSE
from quickstudy.data.volatility import FEATURES, WARM_UP, relative
from quickstudy.data.windows import Panel
from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support

__all__ = ["GARCH", "HAR", "Linear", "Said"]

Floats = NDArray[np.float64]
_TRAITS = Traits(targets=("real",), trainable=False)
_SPLIT = 10.0  # returns beyond so many deviations are splits that were not adjusted; GARCH sees them cut


class Said(AbstractLearner):
    """One column of the features, which is a forecast already: nothing is learned.

    ``"week"`` is the *last value*, the mean variance of the last five days; ``"ewma"`` the exponentially weighted mean
    of J.P. Morgan's RiskMetrics (1996) with 0.94.

    Args:
        column: of ``data.volatility.FEATURES``, on the scale of the target.
    """

    def __init__(self, column: str) -> None:
        super().__init__()
        self.column = FEATURES.index(column)

    @property
    @override
    def traits(self) -> Traits:
        return _TRAITS

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Tensor:
        """The state is empty."""
        del state, key
        check_support(support)
        assert isinstance(support.x, Tensor)
        return support.x.new_zeros(support.n_task, 0)

    @override
    def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        assert isinstance(query.x, Tensor)
        return query.x[..., self.column : self.column + 1]


@dataclass(frozen=True, eq=False)
class Linear:
    """A line for each task: weights ``[T, D]`` on the first D columns, and a constant ``[T]``."""

    weight: Tensor
    constant: Tensor


class HAR(AbstractLearner):
    """Least squares on the variances of the last day, week and month, in logarithms, for each share on its own past.

    F. Corsi, "A simple approximate long-memory model of realized volatility", Journal of Financial Econometrics 2009.

    It is fitted to *all* days of the share up to the end of the support, not to the support alone: this is how the
    field uses it, and more than a meta-learner is given.

    Args:
        panel: the shares that the tasks are made of.
        gap: as the tasks have it.
    """

    def __init__(self, panel: Panel, gap: float) -> None:
        super().__init__()
        self.panel, self.gap = panel, gap

    @property
    @override
    def traits(self) -> Traits:
        return _TRAITS

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Linear:
        del state, key
        check_support(support)
        fits = [self._fit(start, end, level) for start, end, level in _pasts(self.panel, support)]
        return Linear(torch.tensor([fit[:3] for fit in fits]), torch.tensor([fit[3] for fit in fits]))

    def _fit(self, start: int, end: int, level: float) -> list[float]:
        rows = np.arange(start + WARM_UP, end + 1)
        columns = np.column_stack([self.panel.known[rows, :3], np.ones(len(rows))])
        found = np.linalg.lstsq(columns, self.panel.ahead[rows] + self.gap, rcond=None)[0]
        slopes = found[:3]
        return [*slopes.tolist(), float(found[3] + level * (slopes.sum() - 1))]

    @override
    def predict(self, state: Linear, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        assert isinstance(query.x, Tensor)
        said = (query.x[..., :3].double() * state.weight[:, None]).sum(2) + state.constant[:, None]
        return said[..., None].to(query.x.dtype)


@dataclass(frozen=True, eq=False)
class Fitted:
    """GARCH(1,1) of each task, ``[T]`` each: its constants, and how much of a return's variance the range shows.

    Args:
        omega: the constant.
        alpha: of the last squared return.
        beta: of the last variance.
        scale: mean daily range variance over mean squared return of the share's past.
        cut: returns are cut at it.
        end: row of the panel where the support ends.
        level: of the task.
    """

    omega: Tensor
    alpha: Tensor
    beta: Tensor
    scale: Tensor
    cut: Tensor
    end: Tensor
    level: Tensor


class GARCH(AbstractLearner):
    """GARCH(1,1) without mean, fitted by `arch` to all daily returns of the share up to the end of the support.

    T. Bollerslev, "Generalized autoregressive conditional heteroskedasticity", Journal of Econometrics 1986.

    Its variance is of returns from close to close; the target is of the hours of trade, so that it is multiplied by the
    ratio of the two in the share's past. Which day a query is of is found by its features, which are those of one day.

    Args:
        panel: the shares that the tasks are made of.

    Raises:
        InputError: `arch` is not installed.
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__()
        try:
            import arch  # noqa: F401
        except ImportError as error:
            raise InputError("GARCH needs the package arch: pip install 'quickstudy[finance]'.") from error
        self.panel = panel

    @property
    @override
    def traits(self) -> Traits:
        return _TRAITS

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Fitted:
        del state, key
        check_support(support)
        fits = [(*self._fit(start, end), end, level) for start, end, level in _pasts(self.panel, support)]
        columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*fits, strict=True)]
        omega, alpha, beta, scale, cut, ends, level = columns
        return Fitted(omega, alpha, beta, scale, cut, ends.long(), level)

    def _returns(self, start: int, end: int) -> Floats:
        """Percent, of the days after ``start`` up to ``end``."""
        number = int(np.searchsorted(self.panel.starts, start, "right")) - 1
        close = np.log(self.panel.shares[number].bars[: end - start + 1, CLOSE])
        found: Floats = 100 * np.diff(close)
        return found

    def _fit(self, start: int, end: int) -> tuple[float, float, float, float, float]:
        from arch import arch_model

        returns = self._returns(start, end)
        # The median does not know the splits that it is to find.
        cut = _SPLIT * float(np.median(np.abs(returns))) / 0.6745 or float(np.abs(returns).max())
        kept = np.clip(returns, -cut, cut)
        if cut == 0:  # the price never moved
            return 0.0, 0.0, 0.0, 0.0, 0.0
        model = arch_model(kept, mean="Zero", vol="GARCH", p=1, q=1, rescale=False)
        found = model.fit(disp="off", show_warning=False)
        omega, alpha, beta = (float(value) for value in found.params)
        scale = float(self.panel.variance[start + 1 : end + 1].mean() * 1e4 / np.square(kept).mean())
        return omega, alpha, beta, scale, cut

    @override
    def predict(self, state: Fitted, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        assert isinstance(query.x, Tensor)
        out = query.x.new_zeros(query.n_task, query.n_example, 1)
        for t in range(query.n_task):
            there = query.real[t]
            said = self._forecasts(state, t, query.x[t][there].cpu().numpy())
            out[t, there, 0] = torch.from_numpy(said).to(out)
        return out

    def _forecasts(self, state: Fitted, t: int, x: NDArray[np.float32]) -> Floats:
        end, level = int(state.end[t]), float(state.level[t])
        number = int(np.searchsorted(self.panel.starts, end, "right")) - 1
        start, stop = int(self.panel.starts[number]), int(self.panel.starts[number + 1])
        rows = _rows_of(x, relative(self.panel.known[end:stop], np.array(level))) + end
        omega, alpha, beta = (float(part[t]) for part in (state.omega, state.alpha, state.beta))
        cut = float(state.cut[t])
        squares = np.clip(self._returns(start, int(rows.max())), -cut, cut) ** 2
        first = squares[: end - start].mean()
        # s_{t+1} = omega + alpha r_t^2 + beta s_t: each number made of the returns up to its own day.
        path = lfilter([1.0], [1, -beta], omega + alpha * squares, zi=[beta * first])[0]
        ahead = path[rows - start - 1]
        total, days = np.zeros(len(rows)), self.panel.horizon
        for _ in range(days):
            total += ahead
            ahead = omega + (alpha + beta) * ahead
        return np.asarray(np.log(np.maximum(total / days * float(state.scale[t]) / 1e4, 1e-8)) - level)


def _rows_of(x: NDArray[np.float32], days: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which of the days each row is of."""
    same = (x[:, None] == days[None]).all(2)
    if not same.any(1).all():
        raise InputError("GARCH knows the days of its own shares only: a query is none of the days after the support.")
    return np.asarray(same.argmax(1), dtype=np.int64)


def _pasts(panel: Panel, support: Examples) -> list[tuple[int, int, float]]:
    """Of each task the first row of its share, the row where the support ends, and its level."""
    if not isinstance(support.side, Tensor):
        raise InputError(
            "HAR and GARCH are fitted to a share's whole past, which these tasks do not name (Examples.side is None). "
            "Give them tasks of the data sets sp500 or bars."
        )
    first, ends = support.side.cpu().numpy().T
    starts = panel.starts[np.searchsorted(panel.starts, ends, "right") - 1]
    return list(zip(starts.tolist(), ends.tolist(), panel.known[first, 3].tolist(), strict=True))
