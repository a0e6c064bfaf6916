"""Users as tasks: pure, the same in any chunks, the first ratings as support, and nothing from behind the cut."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from quickstudy.data.dataset import DataSet
from quickstudy.data.movietweetings import MovieTweetings
from quickstudy.data.ratings import Ratings, _role
from quickstudy.data.ratingscores import ndcg, recall
from quickstudy.data.ratingtasks import RatingTasks
from quickstudy.data.registry import data_sets
from quickstudy.episode import Episode, Examples
from quickstudy.errors import DataError, InputError, UnknownName
from tests.conftest import needed

CUT = 1000.0
SIZES: dict[str, Any] = {"shot": 3, "query": [2, 6], "seed": 0}
Row = tuple[str, str, float, float]


def made_up(seed: int = 0, users: int = 60) -> list[Row]:
    """Ratings of 40 items over a time of which the cut is in the middle; some items come late."""
    draw, rows = np.random.default_rng(seed), []
    for user in range(users):
        times = np.sort(draw.choice(2000, draw.integers(8, 30), replace=False))
        items = draw.permutation(40)
        for time, item in zip(times, items, strict=False):
            rows.append((f"u{user}", f"i{item + (40 if time > 1500 else 0)}", float(draw.integers(1, 6)), float(time)))
    return rows


def data_of(tmp_path: Path, rows: list[Row], **options: Any) -> Ratings:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
    path.write_text("".join(f"{u},{i},{r},{t}\n" for u, i, r, t in rows))
    facts = tmp_path / "items.csv"
    facts.write_text("item,year,genres\n" + "".join(f"i{n},{1980 + n % 40},g{n % 3}|h{n % 2}\n" for n in range(80)))
    return Ratings(None, file=path, items=facts, **{"cut": CUT, "reserve": 4, **options})


def same(one: Episode, other: Episode) -> bool:
    return all(
        torch.equal(a, b)
        for left, right in ((one.support, other.support), (one.query, other.query))
        for a, b in zip(leaves(left), leaves(right), strict=True)
    )


def leaves(part: Examples) -> list[torch.Tensor]:
    assert isinstance(part.x, dict) and part.y is not None
    return [*part.x.values(), part.y, part.real]


def names(source: RatingTasks, episode: Episode) -> list[str]:
    assert episode.classes is not None
    return [source.table.users[int(user)] for user in episode.classes[:, 0]]


# --- tasks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_any_chunks_give_the_same_tasks(tmp_path: Path, role: str) -> None:
    source = data_of(tmp_path, made_up()).tasks(role, shot=[1, 4], query=[2, 6], seed=3)
    together = source.episodes(range(40))
    for task in (0, 7, 39):
        alone = source.episodes([task])  # type: ignore[arg-type]
        for whole, part in ((together.support, alone.support), (together.query, alone.query)):
            assert all(torch.equal(a, b) for a, b in zip(leaves(whole.task(task)), leaves(part.task(0)), strict=True))


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_every_user_comes_once_before_any_comes_again(tmp_path: Path, role: str) -> None:
    source = data_of(tmp_path, made_up()).tasks(role, **SIZES)
    for turn in range(2):
        episode = source.episodes(range(turn * source.n_user, (turn + 1) * source.n_user))
        assert len(set(names(source, episode))) == source.n_user


def test_users_of_roles_are_others_and_do_not_depend_on_the_file(tmp_path: Path) -> None:
    few, many = data_of(tmp_path, made_up(users=40)), data_of(tmp_path, made_up(1, users=60))
    found = [set(names(s := many.tasks(role, **SIZES), s.episodes(range(s.n_user)))) for role in many.splits]
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    roles = dict(zip(many.table.users, many.roles, strict=True))
    assert all(roles[user] == role for user, role in zip(few.table.users, few.roles, strict=True))
    shares = np.unique([_role(str(n)) for n in range(20_000)], return_counts=True)[1] / 20_000
    assert np.allclose(shares, [0.3, 0.6, 0.1], atol=0.02)  # test, train, validation


def test_support_first_then_queries_behind_the_cut(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up())
    source = data.tasks("test", **SIZES)
    episode = source.episodes(range(source.n_user))
    for task, user in enumerate(names(source, episode)):
        rows = np.flatnonzero(data.table.user == data.table.users.index(user))
        assert episode.support.y is not None and episode.query.y is not None
        given = episode.support.task(task).y[0, :, 0].double().numpy() * data.past.std + data.past.mean  # type: ignore[index]
        asked = episode.query.task(task).y[0, :, 0].double().numpy() * data.past.std + data.past.mean  # type: ignore[index]
        assert np.allclose(given, data.table.rating[rows[:3]], atol=1e-5)
        behind = [row for row in rows[4:] if data.table.time[row] >= CUT][:6]
        assert np.allclose(asked, data.table.rating[behind], atol=1e-5) and len(behind) >= 2


def test_queries_are_the_same_for_any_support_within_the_reserve(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up())
    for role in ("validation", "test"):
        one, four = (data.tasks(role, shot=n, query=[2, 6], seed=0).episodes(range(10)) for n in (1, 4))
        assert all(torch.equal(a, b) for a, b in zip(leaves(one.query), leaves(four.query), strict=True))
        assert torch.equal(one.support.y[:, 0], four.support.y[:, 0])  # type: ignore[index]


def test_training_tasks_end_before_the_cut(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up())
    for role in ("train", "validation"):
        source = data.tasks(role, shot=[1, 4], query=[2, 6], seed=0)
        last = source.histories.begin + source.histories.end - 1
        assert (data.table.time[last] < CUT).all()


@settings(max_examples=25, deadline=None)
@given(low=st.integers(1, 3), more=st.integers(0, 5), q_low=st.integers(1, 3), q_more=st.integers(0, 5))
def test_ragged_sizes(tmp_path_factory: pytest.TempPathFactory, low: int, more: int, q_low: int, q_more: int) -> None:
    data = data_of(tmp_path_factory.mktemp("ragged"), made_up())
    for role in data.splits:
        source = data.tasks(role, shot=[low, low + more], query=[q_low, q_low + q_more], seed=1)
        episode = source.episodes(range(30))
        episode.check()
        for part, least, most in ((episode.support, low, low + more), (episode.query, q_low, q_low + q_more)):
            count = part.real.sum(1)
            assert least <= int(count.min()) and int(count.max()) <= most
            assert all(not leaf[~part.real].any() for leaf in leaves(part)[:3])


# --- nothing from behind the cut ------------------------------------------------------------------------------------


def rated_otherwise(rows: list[Row]) -> list[Row]:
    """Everything from behind the cut has another rating."""
    return [(u, i, r if t < CUT else 6 - r, t) for u, i, r, t in rows]


def none_left(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row[3] < CUT]


def more_of_them(rows: list[Row]) -> list[Row]:
    """New people, and new items that come first by name, all behind the cut."""
    return rows + [(f"new{n % 50}", f"a{n}", 5.0, CUT + n) for n in range(600)]


FUTURES: list[Callable[[list[Row]], list[Row]]] = [rated_otherwise, none_left, more_of_them]


@pytest.mark.parametrize("change", FUTURES)
def test_another_future_moves_nothing_that_is_trained_on(
    tmp_path: Path, change: Callable[[list[Row]], list[Row]]
) -> None:
    """Normalisation, item statistics, numbering, genres, users of a role, and every training and validation task."""
    before, after = data_of(tmp_path, made_up()), data_of(tmp_path, change(made_up()))
    one, other = before.past, after.past
    for name in ("mean", "std", "lowest", "middle", "genres"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("count", "total", "user", "item", "value", "time"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    numbered = [{d.table.items[i]: n for i, n in enumerate(d.past.number) if n} for d in (before, after)]
    assert numbered[0] == numbered[1]
    for role in ("train", "validation"):
        tasks = [data.tasks(role, shot=[1, 4], query=[2, 6], seed=0) for data in (before, after)]
        assert tasks[0].hash == tasks[1].hash and tasks[0].settings == tasks[1].settings
        assert same(tasks[0].episodes(range(50)), tasks[1].episodes(range(50)))


def test_what_others_say_later_moves_no_test_task(tmp_path: Path) -> None:
    """Nor what other test users say at any time: of a test user's task only that user's own ratings are part."""
    rows = made_up()
    tested = next(u for u, *_ in rows if _role(u) == "test")
    for stays in ({"train", "validation", "test"}, {"train"}):
        changed = [(u, i, r if u == tested or (_role(u) in stays and t < CUT) else 6 - r, t) for u, i, r, t in rows]
        one, other = (task_of(data_of(tmp_path, each), tested) for each in (rows, changed))
        assert same(one, other)


def task_of(data: Ratings, user: str) -> Episode:
    source = data.tasks("test", **SIZES)
    return source.episodes([names(source, source.episodes(range(source.n_user))).index(user)])  # type: ignore[arg-type]


def test_the_past_does_move_them(tmp_path: Path) -> None:
    """So that the tests above cannot pass because nothing is looked at."""
    rows = made_up()
    changed = [(u, i, r if t >= CUT or _role(u) != "train" else 6 - r, t) for u, i, r, t in rows]
    tested = next(u for u, *_ in rows if _role(u) == "test")
    assert not same(*(task_of(data_of(tmp_path, each), tested) for each in (rows, changed)))


def test_the_ratings_of_test_users_are_no_part_of_the_past(tmp_path: Path) -> None:
    rows = made_up()
    one = data_of(tmp_path, rows).past
    other = data_of(tmp_path, [(u, i, r if _role(u) == "train" else 6 - r, t) for u, i, r, t in rows]).past
    assert np.array_equal(one.total, other.total) and one.mean == other.mean


@pytest.mark.parametrize("rehearse", [None, 600.0])
@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_what_is_said_of_an_item_is_what_others_said_before(tmp_path: Path, role: str, rehearse: float | None) -> None:
    """Before a task's first query, in a test before the cut; one's own ratings may be anything."""
    rows = made_up()
    data = data_of(tmp_path, rows, rehearse=rehearse)
    source = data.tasks(role, **SIZES)
    episode = source.episodes(range(source.n_user))
    seen = 0
    for task, user in enumerate(names(source, episode)):
        drawn = source._drawn(np.array([task]))
        mine = sorted((row for row in rows if row[0] == user), key=lambda row: row[3])
        first = next(t for _, i, _, t in mine if i == data.table.items[data.table.item[drawn.query[0][0, 0]]])
        fixed = rehearse is not None and role != "train"
        moment = (rehearse or CUT) if role == "test" or fixed else first
        before = [(i, r) for u, i, r, t in rows if u != user and t < moment and _role(u) == "train"]
        asked = source.asked([task])  # type: ignore[arg-type]
        assert asked.since[0, 0] == first - moment
        for part, at in ((episode.support, drawn.support), (episode.query, drawn.query)):
            x = part.task(task).x
            assert isinstance(x, dict)
            for row in range(int(at[1].sum())):
                name = data.table.items[data.table.item[at[0][0, row]]]
                values = (np.array([r for i, r in before if i == name]) - data.past.mean) / data.past.std
                shrunk, count, known = x["features"][0, row, -3:].tolist()
                assert known == (len(values) > 0) == (int(x["item"][0, row]) > 0)
                assert shrunk == pytest.approx(values.sum() / (len(values) + 5), abs=1e-6)
                assert count == pytest.approx(np.log1p(len(values)) / 4)
                if role != "train" and part is episode.query:
                    assert asked.rated[0, row] == len(values)
                seen += len(values)
    assert seen > 20


def test_a_rehearsal_is_a_test_before_the_test(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up(), rehearse=600.0)
    assert data.past.time.max() < 600
    train, validation, test = (data.tasks(role, **SIZES) for role in data.splits)
    for source, low, high in ((train, 0.0, 600.0), (validation, 600.0, CUT), (test, CUT, np.inf)):
        for task in range(source.n_user):
            rows, there = source._drawn(np.array([task])).query
            times = data.table.time[rows[there]]
            assert low <= times.min() and times.max() < high
    with pytest.raises(InputError, match=r"A rehearsal begins before the cut, 1000, received rehearse = 1000\."):
        data_of(tmp_path, made_up(), rehearse=CUT).tasks("train", **SIZES)
    with pytest.raises(InputError, match=r"The rehearsal's begin is a time in seconds since 1970, received inf"):
        Ratings(None, rehearse=float("inf"))


def test_unseen_items_have_no_number_but_are_described(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up())
    source = data.tasks("test", shot=3, query=[2, 30], seed=0)
    query = source.episodes(range(source.n_user)).query
    assert isinstance(query.x, dict)
    unseen = (query.x["item"] == 0) & query.real
    assert 0 < int(unseen.sum()) < int(query.real.sum())
    assert not query.x["features"][unseen][:, -3:].any() and query.x["features"][unseen][:, 1].all()


def test_examples_of_a_user_who_is_not_in_the_file(tmp_path: Path) -> None:
    """The same numbers as a test task has, and its answers in the file's own units."""
    data = data_of(tmp_path, made_up())
    source = data.tasks("test", **SIZES)
    episode = source.episodes(range(1))
    (rows, _), (asked, there) = source._drawn(np.array([0])).support, source._drawn(np.array([0])).query
    support = data.examples(
        [data.table.items[i] for i in data.table.item[rows[0]]], data.table.rating[rows[0]].tolist()
    )
    query = data.examples([data.table.items[i] for i in data.table.item[asked[there]]])
    assert all(torch.equal(a, b) for a, b in zip(leaves(support), leaves(episode.support), strict=True))
    assert query.y is None and isinstance(query.x, dict) and isinstance(episode.query.x, dict)
    assert all(torch.equal(query.x[name], episode.query.x[name]) for name in query.x)
    with pytest.raises(
        InputError, match=r"Cannot make examples of 'Heat', which .*csv has no rating of\. Name items as"
    ):
        data.examples(["i1", "Heat"])
    with pytest.raises(InputError, match=r"Cannot make examples of no item\."):
        data.examples([])
    for wrong in ([1.0], [1.0, float("nan")]):
        with pytest.raises(
            InputError, match=r"Cannot make a support of 2 items and the ratings \[1.0.*expected one finite"
        ):
            data.examples(["i1", "i2"], wrong)


# --- figures ------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=2, max_size=12),
    first=st.integers(1, 6),
)
def test_ndcg_is_that_of_scikit_learn(pairs: list[tuple[int, int]], first: int) -> None:
    truth, said = np.array(pairs, dtype=np.float64).T
    if truth.any():
        assert ndcg(truth, said, first) == pytest.approx(ndcg_score([truth], [said], k=first))
    else:
        assert np.isnan(ndcg(truth, said, first))


def test_recall() -> None:
    liked = np.array([True, False, True, False])
    assert recall(liked, np.array([4.0, 3.0, 1.0, 2.0]), 2) == 0.5
    assert recall(liked, np.zeros(4), 2) == 0.5, "predicted alike: what chance gives"
    assert np.isnan(recall(liked, np.zeros(4), 4)) and np.isnan(recall(np.zeros(4, dtype=bool), np.zeros(4), 2))


def test_a_rating_at_the_limit_is_liked(tmp_path: Path) -> None:
    """Though it was normalised in float32 and back."""
    for liked in (1.0, 2.0, 3.0, 4.0, 5.0):
        source = data_of(tmp_path, made_up(), liked=liked).tasks("test", shot=3, query=[7, 20], seed=0)
        episode = source.episodes(range(source.n_user))
        y, there = episode.query.y, episode.query.real
        assert y is not None
        ratings = [
            np.round(y[t, there[t], 0].double().numpy() * source.past.std + source.past.mean) for t in range(len(y))
        ]
        found = source.figures(torch.zeros_like(y), episode)["recall@5"]  # nothing is known: 5 of N by chance
        expected = [5 / len(each) if (each >= liked).any() else np.nan for each in ratings]
        assert np.allclose(found, expected, atol=1e-4, equal_nan=True)
        known = source.figures(y, episode)["recall@5"]
        expected = [min(5, n) / n if (n := (each >= liked).sum()) else np.nan for each in ratings]
        assert np.allclose(known, expected, atol=1e-4, equal_nan=True)


def test_figures_are_in_the_units_of_the_ratings(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up())
    source = data.tasks("test", **SIZES)
    episode = source.episodes(range(12))
    assert episode.query.y is not None
    found = source.figures(episode.query.y + 1 / data.past.std, episode)
    assert next(iter(found)) == "mae"
    for name, value in (("mae", 1.0), ("rmse", 1.0), ("mse", 1.0), ("ndcg@5", 1.0)):
        assert np.allclose(found[name], value, atol=1e-5), name
    assert all(values.shape == (12,) for values in found.values())
    worst = source.figures(torch.full_like(episode.query.y, torch.nan), episode)
    assert np.isinf(worst["mae"]).all() and np.isfinite(worst["ndcg@5"]).all()


# --- what cannot be ------------------------------------------------------------------------------------


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up())
    with pytest.raises(InputError, match=r"Cannot draw 5-way tasks from ratings: a user has no classes"):
        data.tasks("test", way=5, **SIZES)
    with pytest.raises(UnknownName, match=r"no split of ratings called 'tset'\. Did you mean 'test'"):
        data.tasks("tset", **SIZES)
    with pytest.raises(
        InputError, match=r"Cannot make tasks of ratings/test with shot = 3 and query = 99: of its \d+ u"
    ):
        data.tasks("test", shot=3, query=99, seed=0)
    with pytest.raises(UnknownName, match=r"treatment of duplicates called 'newest'"):
        Ratings(None, duplicates="newest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"reserve counts ratings: expected 0 or more, received -1"):
        Ratings(None, file=tmp_path / "0.csv", reserve=-1)
    with pytest.raises(InputError, match=r"The cut is a time in seconds since 1970, received nan"):
        Ratings(None, cut=float("nan"))
    with pytest.raises(InputError, match=r"needs your file: --data\.file ratings\.csv"):
        Ratings(None).tasks("train", **SIZES)
    with pytest.raises(DataError, match=r"no rating of a training user was made before the cut, 0\. Move the cut"):
        data_of(tmp_path, made_up(), cut=0.0).tasks("train", **SIZES)


def test_the_usual_cut_leaves_seven_tenths_before(tmp_path: Path) -> None:
    rows = made_up()
    data = data_of(tmp_path, rows, cut=None)
    assert np.mean([t < data.cut for *_, t in rows]) == pytest.approx(0.7, abs=0.01)


def test_a_file_below_the_data_root(tmp_path: Path) -> None:
    data_of(tmp_path, made_up())
    assert Ratings(tmp_path, file=Path("0.csv"), cut=CUT).file == tmp_path / "0.csv"


# --- MovieTweetings ------------------------------------------------------------------------------------


def test_movietweetings(data_root: Path) -> None:
    data: DataSet = data_sets.get("movietweetings")(data_root)
    assert isinstance(data, DataSet) and isinstance(data, MovieTweetings)
    needed(data_root / "movietweetings")
    sizes = {role: data.tasks(role, shot=10, query=[3, 20], seed=0).n_user for role in data.splits}
    assert sizes["test"] == 508 and sizes["validation"] == 114
    assert data.liked == 8 and len(data.past.genres) == 25
    source = data.tasks("test", shot=10, query=[3, 20], seed=0)
    source.episodes(range(508)).check()
    assert source.settings["cut"] == 1372636800.0


def test_movietweetings_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read MovieTweetings: there is no file .*ratings\.dat\. Run `quickst"):
        MovieTweetings(tmp_path).tasks("test", **SIZES)
