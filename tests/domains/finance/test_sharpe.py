"""Sharpe ratios beside empyrical's, blocks beside arch's, and the deflated ratio beside its authors' example."""

import warnings
from statistics import NormalDist

import numpy as np
import pytest

from quickstudy.domains.finance.sharpe import (
    best_of_worthless,
    bootstrap_interval,
    deflated_sharpe,
    held,
    probability_above,
    sharpe,
    stationary_bootstrap,
)
from quickstudy.errors import InputError
from quickstudy.keys import Key

RETURNS = np.random.default_rng(0).normal(4e-4, 1e-2, 300) + 3e-3 * np.sin(np.arange(300) / 7)


def test_as_empyrical_has_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        empyrical = pytest.importorskip("empyrical")
        assert sharpe(RETURNS) == pytest.approx(empyrical.sharpe_ratio(RETURNS), rel=1e-12)
    assert np.isnan(sharpe(np.ones(5))) and np.isnan(sharpe(np.ones(1)))


def test_interval_as_arch_has_it() -> None:
    bootstrap = pytest.importorskip("arch.bootstrap")
    other = bootstrap.StationaryBootstrap(10, RETURNS, seed=1)
    low, high = np.ravel(other.conf_int(lambda x: np.array([sharpe(x)]), reps=2000, method="percentile"))
    assert bootstrap_interval(RETURNS, block=10) == pytest.approx((low, high), abs=0.12)


def test_blocks() -> None:
    rows = stationary_bootstrap(200, 400, 10, Key.of(1))
    follows = (np.diff(rows, axis=1) % 200 == 1).mean()
    assert follows == pytest.approx(0.9 + 0.1 / 200, abs=0.005) and rows.min() == 0 and rows.max() == 199
    assert np.bincount(rows.ravel(), minlength=200).std() / 400 < 0.15, "every day as often"
    assert (stationary_bootstrap(200, 7, 10, Key.of(1)) == rows[:7]).all()
    with pytest.raises(InputError, match=r"Cannot draw blocks: .* received 200, 1 and 0\.5"):
        stationary_bootstrap(200, 1, 0.5, Key.of(0))


def test_deflated_as_its_authors_have_it() -> None:
    """Bailey and López de Prado 2014: 2.5 a year of 250 days, five years, 100 trials of variance 1/2 a year."""
    bar = best_of_worthless(100, (0.5 / 250) ** 0.5)
    assert bar == pytest.approx(0.1132, abs=5e-5)
    assert probability_above(2.5 / 250**0.5, bar, 1250, -3, 10) == pytest.approx(0.9004, abs=5e-4)


def test_one_trial_is_the_probabilistic_ratio() -> None:
    ratio = RETURNS.mean() / RETURNS.std(ddof=1)
    z = (RETURNS - RETURNS.mean()) / RETURNS.std()
    spread = np.sqrt(1 - (z**3).mean() * ratio + ((z**4).mean() - 1) / 4 * ratio**2)
    expected = NormalDist().cdf(ratio * np.sqrt(299) / spread)
    assert deflated_sharpe(RETURNS, np.array([ratio])) == pytest.approx(expected, rel=1e-12)
    more = np.concatenate([[ratio], np.random.default_rng(1).normal(0, 0.05, 20)])
    assert deflated_sharpe(RETURNS, more) < expected
    with pytest.raises(InputError, match=r"Cannot deflate a Sharpe ratio of 2 days and 1 trials"):
        deflated_sharpe(RETURNS[:2], np.array([ratio]))


def test_costs_by_hand() -> None:
    """Two windows: long, short, short; and one day long that the first window does not have."""
    days = np.array([["2020-01-02", "2020-01-03", "2020-01-06"], ["2020-01-06", "NaT", "NaT"]], dtype="datetime64[D]")
    positions, returns = np.array([[1, -1, -1], [1, 0, 0]]), np.array([[0.01, 0.02, -0.03], [0.05, np.nan, np.nan]])
    found = held(days, positions, returns, 0.001)
    first = [0.01 - 0.001, -0.02 - 0.002, 0.03 - 0.001]  # buys 1; sells 2; keeps, and buys 1 back at the end
    assert found.returns == pytest.approx([first[0], first[1], (first[2] + 0.05 - 0.002) / 2])
    assert found.grown[-1] == pytest.approx(np.prod(1 + found.returns))
