"""Windows of shares as tasks: pure, apart in time, and blind to the future."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quickstudy.data.bars import CLOSE, Share
from quickstudy.data.registry import data_sets
from quickstudy.data.shares import SP500, AbstractShares, Bars
from quickstudy.data.volatility import FEATURES, WARM_UP, ahead, daily_variance, known
from quickstudy.data.windows import WindowTasks
from quickstudy.domains.finance.pooled import gap_of
from quickstudy.episode import Episode, Examples
from quickstudy.errors import DataError, InputError, UnknownName
from tests.conftest import needed
from tests.data.madebars import made_shares

ROLES = ("train", "validation", "test")
SIZE: dict[str, Any] = {"shot": 20, "query": 5, "seed": 0}


class Made(AbstractShares):
    """A data set of made-up shares."""

    name = "made"

    def __init__(
        self, shares: tuple[Share, ...], target: Literal["volatility", "direction"] = "volatility", **options: Any
    ):
        given: dict[str, Any] = {"horizon": 5, "variance": "garman-klass", "train_until": None, "validate_until": None}
        super().__init__(target, **{**given, "purge": None, "gap": 0.145, **options})
        self.made = shares

    def read(self) -> tuple[Share, ...]:
        return self.made


SHARES = made_shares([700, 650, 400, 90])


@pytest.fixture(scope="module")
def sp500(data_root: Path) -> SP500:
    needed(data_root / "sp500-daily")
    return SP500(data_root)


def parts(episode: Episode) -> list[tuple[Tensor, Tensor]]:
    found = []
    for part in (episode.support, episode.query):
        assert isinstance(part.x, Tensor) and part.y is not None
        found.append((part.x, part.y))
    return found


def same(one: Episode, other: Episode) -> bool:
    return all(
        torch.equal(a, b)
        for left, right in zip(parts(one), parts(other), strict=True)
        for a, b in zip(left, right, strict=True)
    )


# --- what a task is -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["volatility", "direction"])
def test_a_task_is_a_pure_function_of_its_number(target: Literal["volatility", "direction"]) -> None:
    one, two = (Made(SHARES, target).tasks("train", **SIZE) for _ in range(2))
    together = one.episodes(range(12))
    assert one.hash == two.hash
    order = [7, 0, 11, 3]
    assert same(two.episodes(np.array(order)), Episode(together.support.tasks(order), together.query.tasks(order)))  # type: ignore[arg-type]
    other = Made(SHARES, target).tasks("train", **{**SIZE, "seed": 1})
    assert not same(together, other.episodes(range(12)))


@settings(max_examples=15, deadline=None)
@given(shot=st.tuples(st.integers(2, 9), st.integers(0, 9)), query=st.tuples(st.integers(1, 6), st.integers(0, 6)))
def test_ragged_windows_do_not_depend_on_those_beside_them(shot: tuple[int, int], query: tuple[int, int]) -> None:
    sizes: dict[str, Any] = {"shot": (shot[0], sum(shot)), "query": (query[0], sum(query)), "seed": 3}
    tasks = RAGGED.tasks("train", **sizes)
    together = tasks.episodes(range(8))
    together.check()
    for number in range(8):
        alone = tasks.episodes(range(number, number + 1))
        for a, b in ((together.support, alone.support), (together.query, alone.query)):
            assert same_rows(a.task(number), b.task(0))


RAGGED = Made(SHARES)


def same_rows(one: Examples, other: Examples) -> bool:
    assert isinstance(one.x, Tensor) and isinstance(other.x, Tensor) and one.y is not None and other.y is not None
    return torch.equal(one.x, other.x) and torch.equal(one.y, other.y)


def test_variance_and_labels_by_hand() -> None:
    share = SHARES[0]
    opened, high, low, close = share.bars[3, :4]
    variance = daily_variance(share, "garman-klass")
    assert variance[3] == pytest.approx(
        0.5 * np.log(high / low) ** 2 - (2 * np.log(2) - 1) * np.log(close / opened) ** 2
    )
    assert daily_variance(share, "parkinson")[3] == pytest.approx(np.log(high / low) ** 2 / (4 * np.log(2)))
    gaps = np.flatnonzero(np.isnan(share.bars[:, 0]))
    assert len(gaps) and (variance[gaps[gaps > 0]] == variance[gaps[gaps > 0] - 1]).all(), "as the day before"
    found = ahead(variance, 5)
    assert found[10] == pytest.approx(np.log(variance[11:16].mean())) and np.isnan(found[-5:]).all()


def test_features_by_hand() -> None:
    share = SHARES[0]
    variance = daily_variance(share, "garman-klass")
    row = known(share, variance)[100]
    close = np.log(share.bars[:, CLOSE])
    assert row[:4] == pytest.approx([np.log(variance[101 - n : 101].mean()) for n in (1, 5, 22, 66)])
    assert row[4:7] == pytest.approx([close[100] - close[100 - n] for n in (1, 5, 22)])
    weights = 0.06 * 0.94 ** np.arange(101)
    weights[-1] = 0.94**100
    assert row[10] == pytest.approx(np.log((weights * variance[100::-1]).sum()))
    assert row[11] == pytest.approx(np.log(variance[:101]).mean())


def test_query_begins_when_the_supports_labels_are_known() -> None:
    tasks = Made(SHARES).tasks("train", **SIZE)
    episode, asked = tasks.episodes(range(50)), tasks.asked(range(50))
    assert isinstance(episode.support.side, Tensor)
    for t in range(50):
        last = int(episode.support.side[t, 1])
        query = np.searchsorted(tasks.panel.calendar, asked.date[t])
        assert query[0] == tasks.panel.day[last] + tasks.horizon and (np.diff(query) == 1).all()


def test_direction_is_of_the_next_close_and_supports_hold_both() -> None:
    tasks = Made(SHARES, "direction").tasks("train", way=2, shot=(2, 4), query=5, seed=0)
    episode, asked = tasks.episodes(range(200)), tasks.asked(range(200))
    assert episode.query.y is not None and episode.support.y is not None
    assert torch.equal(episode.query.y == 1, torch.from_numpy(asked.next_return > 0))
    for t in range(200):
        assert set(episode.support.y[t][episode.support.real[t]].tolist()) == {0, 1}
    assert tasks.horizon == 1 and tasks.shape.outputs == 2


@pytest.mark.parametrize("target", ["volatility", "direction"])
def test_today(target: Literal["volatility", "direction"]) -> None:
    """With days behind today it is a task like others: what is known and asked is the same to the last bit."""
    cut = tuple(Share(share.symbol, share.dates[:-30], share.bars[:-30]) for share in SHARES[:3])
    now = Made(cut, target).tasks("test", **SIZE).latest()
    assert now.symbols == tuple(share.symbol for share in cut)
    assert now.date.tolist() == [share.dates[-1] for share in cut] and now.query.y is None
    later = Made(SHARES[:3], target, train_until=str(SHARES[0].dates[100]), validate_until=str(SHARES[0].dates[110]))
    tasks = later.tasks("test", **SIZE)
    found = 0
    for task in range(3000):
        asked = tasks.asked([task])  # type: ignore[arg-type]
        if asked.date[0, 0] == now.date[asked.share[0]]:
            episode, found = tasks.episodes([task]), found + 1  # type: ignore[arg-type]
            mine = now.support.task(int(asked.share[0])), now.query.task(int(asked.share[0]))
            assert torch.equal(mine[0].x, episode.support.x) and torch.equal(mine[0].y, episode.support.y)  # type: ignore[arg-type]
            assert torch.equal(mine[1].x, episode.query.x[:, :1])  # type: ignore[index,arg-type]
            assert now.level[asked.share[0]] == asked.level[0]
    assert found


def test_today_of_shares_that_only_rise() -> None:
    shares = tuple(Share(share.symbol, share.dates, share.bars.copy()) for share in SHARES[:2])
    for share in shares:
        share.bars[-4:, CLOSE] = [50, 51, 52, 53]
    tasks = Made(shares, "direction").tasks("train", shot=2, query=5, seed=0)
    with pytest.raises(DataError, match=r"of no share do the last 2 days go both up and down\. Increase shot"):
        tasks.latest()


def test_figures_by_hand() -> None:
    tasks = Made(SHARES).tasks("train", **SIZE)
    episode = tasks.episodes(range(3))
    assert episode.query.y is not None
    perfect = tasks.figures(episode.query.y.double() - tasks.gap, episode)
    assert perfect["qlike"] == pytest.approx(0, abs=1e-9) and perfect["variance-mse"] == pytest.approx(0, abs=1e-9)
    off = tasks.figures(episode.query.y.double() - tasks.gap + np.log(2), episode)
    assert off["qlike"] == pytest.approx(0.5 - np.log(0.5) - 1, abs=1e-6)
    level = tasks.asked(range(3)).level[:, None]
    variance = 1e4 * np.exp(episode.query.y[..., 0].double().numpy() - tasks.gap + level)
    assert off["variance-mse"] == pytest.approx((variance**2).mean(1), rel=1e-5)
    assert list(off) == ["qlike", "variance-mse"], "the first is the main one"
    broken = episode.query.y.double() * torch.nan
    assert np.isinf(tasks.figures(broken, episode)["qlike"]).all()


# --- time -----------------------------------------------------------------------------------------------


def touched(tasks: WindowTasks) -> tuple[int, int, int]:
    """Calendar numbers: first support day, last query day, last label day, over all windows that there are."""
    first = tasks._first
    day = tasks.panel.day
    return (
        int(day[first].min()),
        int(day[first + tasks.days - 1 - tasks.horizon].max()),
        int(day[first + tasks.days - 1].max()),
    )


@pytest.mark.parametrize("purge", [None, 12])
@pytest.mark.parametrize("target", ["volatility", "direction"])
def test_all_training_ends_before_the_first_validation_support(
    target: Literal["volatility", "direction"], purge: int | None
) -> None:
    data = Made(SHARES, target, purge=purge)
    spans = [touched(data.tasks(role, **SIZE)) for role in ROLES]
    apart = purge or data.horizon
    for earlier, later in pairwise(spans):
        assert earlier[2] + apart < later[0] + 1 and earlier[2] < later[0]
        assert later[0] - earlier[2] > apart


def test_the_published_split_is_apart_in_time(sp500: SP500) -> None:
    spans = [touched(sp500.tasks(role, shot=60, query=20, seed=0)) for role in ROLES]
    calendar = sp500.panel.calendar
    assert calendar[spans[0][2]] <= np.datetime64("2015-12-31") < calendar[spans[1][0]]
    assert calendar[spans[1][2]] <= np.datetime64("2016-12-31") < calendar[spans[2][0]]
    assert all(later[0] - earlier[2] > 5 for earlier, later in pairwise(spans))


def altered(shares: tuple[Share, ...], day: np.datetime64) -> tuple[Share, ...]:
    """All prices and volumes after the day are other ones (and its own are as they were)."""
    draw, found = np.random.default_rng(1), []
    for share in shares:
        bars = share.bars.copy()
        later = share.dates > day
        bars[later, :4] *= np.exp(0.2 * draw.normal(size=(int(later.sum()), 1)).cumsum(0))
        bars[later, 1] *= 1.1
        bars[later, 4] *= 3
        found.append(Share(share.symbol, share.dates, bars))
    return tuple(found)


@pytest.mark.parametrize("at", [250, 450, 600])
@pytest.mark.parametrize("role", ROLES)
def test_another_future_moves_nothing_earlier(role: str, at: int) -> None:
    """Features of days up to d, labels whose days end by d and which windows there are stay to the last bit."""
    day = SHARES[0].dates[at]
    one, two = (Made(shares).tasks(role, **SIZE) for shares in (SHARES, altered(SHARES, day)))
    assert (one._first == two._first).all() and (one._shares == two._shares).all(), "which windows there are"
    numbers = range(300)
    first, second = one.asked(numbers), two.asked(numbers)
    assert (first.date == second.date).all() and (first.share == second.share).all()
    a, b = one.episodes(numbers), two.episodes(numbers)
    assert isinstance(a.support.side, Tensor)
    cut = int(np.searchsorted(one.panel.calendar, day))
    panel = one.panel
    seen = 0
    for x, y, x2, y2, rows in rows_of(a, b, one):
        features, labels = panel.day[rows] <= cut, panel.day[np.minimum(rows + one.horizon, len(panel.day) - 1)] <= cut
        assert torch.equal(x[features], x2[features]) and torch.equal(y[labels], y2[labels])
        seen += int(features.sum())
    if (one.period.first + 40) < at:
        assert seen > 500
    if at < one.period.first:
        assert not same(a, b), "the change is seen where it may be"


def rows_of(a: Episode, b: Episode, tasks: WindowTasks) -> list[tuple[Tensor, Tensor, Tensor, Tensor, np.ndarray]]:
    assert isinstance(a.support.side, Tensor)
    last = a.support.side.numpy()[:, 1:]
    support = last + np.arange(-19, 1)
    query = last + tasks.horizon + np.arange(5)
    (x, y), (qx, qy) = parts(a)
    (x2, y2), (qx2, qy2) = parts(b)
    return [(x, y, x2, y2, support), (qx, qy, qx2, qy2, query)]


@pytest.mark.parametrize("at", [250, 600])
def test_another_future_moves_no_direction_either(at: int) -> None:
    day = SHARES[0].dates[at]
    for role in ROLES:
        one, two = (Made(shares, "direction").tasks(role, **SIZE) for shares in (SHARES, altered(SHARES, day)))
        before = one.panel.day + SIZE["shot"] + 1
        cut = int(np.searchsorted(one.panel.calendar, day))
        keep, kept = (tasks._first[before[tasks._first] <= cut] for tasks in (one, two))
        assert (keep == kept).all(), "whether a support holds both is known at its end"


def test_no_feature_of_a_day_looks_beyond_it() -> None:
    """Day by day, on one share: what is known at a close is the same however the share goes on."""
    share = SHARES[0]
    whole = known(share, daily_variance(share, "garman-klass"))
    for n in (WARM_UP + 1, 137, 500):
        cut = Share(share.symbol, share.dates[:n], share.bars[:n])
        assert np.array_equal(known(cut, daily_variance(cut, "garman-klass")), whole[:n], equal_nan=True)


# --- real and own files ---------------------------------------------------------------------------------


def test_the_published_bars(sp500: SP500) -> None:
    assert len(sp500.panel.symbols) == 505 and len(sp500.panel.day) == 619_040 and len(sp500.panel.calendar) == 1259
    assert sum(int((~share.ranged).sum()) for share in sp500.panel.shares) == 21
    episode = sp500.tasks("test", shot=60, query=20, seed=0).episodes(range(200))
    episode.check()
    assert parts(episode)[0][0].shape == (200, 60, len(FEATURES))


def test_the_constant_of_the_targets_is_what_the_training_period_says(sp500: SP500) -> None:
    assert gap_of(sp500.tasks("train", shot=60, query=20, seed=0)) == pytest.approx(sp500.gap, abs=0.001)


def test_registered(data_root: Path) -> None:
    assert data_sets.get("sp500")(data_root).name == "sp500"
    assert data_sets.get("bars")(folder="x").name == "bars"


def test_own_files(tmp_path: Path) -> None:
    for share in SHARES[:3]:
        rows = ["date,open,high,low,close,volume"]
        for date, bar in zip(share.dates, share.bars, strict=True):
            rows.append(",".join([str(date), *("" if np.isnan(value) else repr(float(value)) for value in bar)]))
        (tmp_path / f"{share.symbol}.csv").write_text("\n".join(rows))
    data = Bars(folder=str(tmp_path))
    tasks = data.tasks("test", **SIZE)
    assert tasks.panel.symbols == ("S00", "S01", "S02")
    assert tasks.panel.hash == Made(SHARES[:3]).panel.hash


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*sp500-daily/individual_stocks_5yr\.zip\. It is published"):
        SP500(tmp_path).tasks("test", **SIZE)


def test_one_symbol_only() -> None:
    with pytest.raises(
        DataError, match=r"Cannot make tasks of one symbol only \(S00\): .* Give the bars of at least two"
    ):
        Made(SHARES[:1]).tasks("train", **SIZE)


def test_too_few_days() -> None:
    with pytest.raises(
        DataError, match=r"made/validation: too few days\. A window takes 209 \(180 of support, 20 of quer"
    ):
        Made(SHARES).tasks("validation", shot=180, query=20, seed=0)
    with pytest.raises(
        DataError, match=r"made/test: too few days\. The bars go from 2015-01-01 to .* nothing of that lies"
    ):
        Made(SHARES, train_until="2030-01-01", validate_until="2031-01-01").tasks("test", **SIZE)


def test_options_that_make_no_sense() -> None:
    with pytest.raises(UnknownName, match=r"no target of shares called 'up'\. .*Known: direction, volatility"):
        SP500(target="up")  # type: ignore[arg-type]
    with pytest.raises(
        UnknownName, match=r"no estimator of the variance called 'garman'\. Did you mean 'garman-klass'"
    ):
        SP500(variance="garman")  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"horizon = 5 and purge = 3: expected .* a purge of at least the horizon \(5\)"
    ):
        SP500(purge=3)
    with pytest.raises(InputError, match=r"divide time at train-until = '2015': expected a date such as 2015-12-31"):
        SP500(train_until="2015")
    with pytest.raises(InputError, match=r"give either --data\.folder DIR .* or --data\.file FILE, received neither"):
        Bars()
    with pytest.raises(InputError, match=r"Cannot draw 2-way tasks from made: volatility is a number, not a class"):
        Made(SHARES).tasks("train", way=2, **SIZE)
    with pytest.raises(InputError, match=r"Cannot draw 3-way tasks from made: a price goes up or not"):
        Made(SHARES, "direction").tasks("train", way=3, **SIZE)
