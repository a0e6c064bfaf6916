"""Any table as tasks: what is read, what is refused, and that nothing of a test group enters what is measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.data.grouptable import GroupTable
from quickstudy.data.grouptasks import GroupTasks
from quickstudy.data.tablefile import read_table
from quickstudy.episode import Examples
from quickstudy.errors import DataError, InputError, QuickstudyError, UnknownName
from quickstudy.evaluate import class_ci95, episode_ci95

SIZES: dict[str, Any] = {"shot": 3, "query": [2, 9], "seed": 0}


def made_up(patients: int = 30, rows: int = 8, target: str = "number") -> list[dict[str, str]]:
    """A row a visit: each patient has a line of their own over time."""
    rng = np.random.default_rng(0)
    found = []
    for p in range(patients):
        level, slope = rng.normal(size=2)
        for v in range(rows):
            dose = rng.normal()
            y = level + slope * dose + 0.1 * rng.normal()
            found.append(
                {
                    "patient": f"p{p}",
                    "day": f"2021-03-{v + 1:02}",
                    "dose": f"{dose:.4f}",
                    "drug": "ABC"[(p + v) % 3],
                    "note": f"n{p}-{v}",
                    "clinic": "one",
                    "weight": ("", "?", "NaN", f"{60 + p}")[v % 4],
                    "y": f"{y:.4f}" if target == "number" else ("ill" if v % 3 == 0 else "well"),
                }
            )
    return found


def write(path: Path, rows: list[dict[str, str]], mark: str = ",") -> Path:
    lines = [mark.join(rows[0]), *(mark.join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def data_of(tmp_path: Path, rows: list[dict[str, str]], **options: Any) -> GroupTable:
    given: dict[str, Any] = {"group": "patient", "target": "y", "time": "day", **options}
    return GroupTable(file=write(tmp_path / "t.csv", rows), **given)


def leaves(part: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    assert isinstance(part.x, torch.Tensor) and part.y is not None
    return part.x, part.y


def test_columns_become_features(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up())
    coded = data.coded
    assert set(coded.left_out) == {"note", "clinic"} and "different words" in coded.left_out["note"]
    assert {name: b.stop - b.start for name, b in coded.blocks.items()} == {"dose": 2, "drug": 3, "weight": 2}
    weight = coded.x[:, coded.blocks["weight"]]
    missing = weight[:, 1] == 1
    assert missing.mean() == pytest.approx(0.75) and bool((weight[missing, 0] == 0).all())
    dose = coded.x[data._training, coded.blocks["dose"]][:, 0]
    assert dose.mean() == pytest.approx(0, abs=1e-5) and dose.std() == pytest.approx(1, abs=1e-4)
    assert coded.absent[coded.blocks["dose"]].tolist() == [0, 1]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_separators(tmp_path: Path, mark: str) -> None:
    found = read_table(write(tmp_path / "t", made_up(3), mark), group="patient", target="y", time="day")
    assert len(found.columns) == 5 and found.time is not None and bool((np.diff(found.time[:8]) == 86400).all())


def test_the_support_is_the_first_in_time(tmp_path: Path) -> None:
    """Rows may stand in any order in the file."""
    rows = made_up()
    order = np.random.default_rng(1).permutation(len(rows))
    source = data_of(tmp_path, [rows[n] for n in order]).tasks("test", **SIZES)
    episode = source.episodes(range(len(source.groups)))
    support, query = leaves(episode.support)[1], leaves(episode.query)[1]
    by_name = {g.name: place for place, g in enumerate(source.groups)}
    values = {name: [float(row["y"]) for row in rows if row["patient"] == name] for name in by_name}
    for task in range(len(by_name)):
        said = torch.cat([support[task], query[task]])[:, 0].double().numpy() * source.asked.std + source.asked.mean
        assert any(np.allclose(said, each, atol=1e-4) for each in values.values())


def test_training_begins_anywhere_and_never_looks_back(tmp_path: Path) -> None:
    source = data_of(tmp_path, made_up(rows=20)).tasks("train", **SIZES)
    drawn = source._draw(np.arange(60))
    assert all(s.max() < q.min() for s, q in drawn), "rows of a patient are numbered in time here"
    assert len({int(s[0]) % 20 for s, _ in drawn}) > 5


def change(rows: list[dict[str, str]], names: set[str]) -> list[dict[str, str]]:
    """Everything about these patients is another."""
    return [
        row | {"dose": "999", "drug": "A", "weight": "1", "y": "-50" if row["y"][0] in "-0123456789" else row["y"]}
        if row["patient"] in names
        else row
        for row in rows
    ]


def test_nothing_of_validation_and_test_groups_is_measured(tmp_path: Path) -> None:
    """Another world of test patients: the features, targets and tasks of the training groups stay, bit for bit."""
    rows = made_up()
    before = data_of(tmp_path, rows)
    tasks = before.tasks("train", **SIZES).episodes(range(40))
    others = {*before.roles["validation"], *before.roles["test"]}
    after = data_of(tmp_path, change(rows, others))
    assert after.roles == before.roles and after.asked.mean == before.asked.mean
    again = after.tasks("train", **SIZES).episodes(range(40))
    for one, other in ((tasks.support, again.support), (tasks.query, again.query)):
        assert all(torch.equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))
    assert after.tasks("train", **SIZES).hash == before.tasks("train", **SIZES).hash
    assert after.tasks("test", **SIZES).hash != before.tasks("test", **SIZES).hash


def test_words_that_training_does_not_know_are_no_word(tmp_path: Path) -> None:
    rows = made_up()
    test = set(data_of(tmp_path, rows).roles["test"])
    data = data_of(tmp_path, [row | ({"drug": "new"} if row["patient"] in test else {}) for row in rows])
    mine = np.isin(np.array(data.raw.group), sorted(test))
    assert data.coded.x[mine, data.coded.blocks["drug"]].sum() == 0
    assert data.coded.blocks["drug"].stop - data.coded.blocks["drug"].start == 3


def test_groups_play_one_role(tmp_path: Path) -> None:
    roles = data_of(tmp_path, made_up(100)).roles
    names = [name for part in roles.values() for name in part]
    assert len(names) == len(set(names)) == 100
    assert [len(roles[role]) for role in ("train", "validation", "test")] == [60, 15, 25]
    settings = data_of(tmp_path, made_up(100)).tasks("test", **SIZES).settings
    assert settings["names"] == roles["test"] and settings["groups"] == 25


@given(st.integers(0, 10**6), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_a_task_is_a_function_of_its_number(tmp_path_factory: pytest.TempPathFactory, number: int, seed: int) -> None:
    data = data_of(tmp_path_factory.mktemp("t"), made_up(), time=None)
    source = data.tasks("train", shot=[2, 4], query=3, seed=seed)
    together = source.episodes(range(number, number + 4))
    for place in range(4):
        alone = source.episodes(range(number + place, number + place + 1))
        for one, other in ((together.support, alone.support), (together.query, alone.query)):
            assert all(torch.equal(a, b) for a, b in zip(leaves(one.task(place)), leaves(other.task(0)), strict=True))


def test_classes_stand_in_support_and_query(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up(target="words"), time=None)
    source = data.tasks("test", shot=3, query=[2, 9], seed=0, way=2)
    assert source.shape.target == "classes" and source.asked.classes == ("ill", "well")
    episode = source.episodes(range(50))
    for part in (episode.support, episode.query):
        y = leaves(part)[1]
        assert all(set(y[t][part.real[t]].tolist()) == {0, 1} for t in range(50))
    assert all(not set(s) & set(q) for s, q in source._draw(np.arange(50)))
    batch = source.batches(16).batch(0)
    assert leaves(batch)[0].shape == (1, 16, source.table.size) and batch.target.way.tolist() == [2]  # type: ignore[union-attr]


def test_figures_are_in_the_targets_units(tmp_path: Path) -> None:
    source = data_of(tmp_path, made_up()).tasks("test", **SIZES)
    episode = source.episodes(range(3))
    y = leaves(episode.query)[1]
    found = source.figures(y + 1.0, episode)
    assert list(found) == ["mae", "rmse"]
    assert found["mae"] == pytest.approx([source.asked.std] * 3, rel=1e-4)


def test_columns_are_hidden_in_training(tmp_path: Path) -> None:
    source = data_of(tmp_path, made_up(), keep=0.1).tasks("train", **SIZES)
    x, _ = leaves(source.episodes(range(40)).support)
    hidden = (x[..., source.table.blocks["dose"]] == torch.tensor([0.0, 1.0])).all((1, 2))
    assert 5 < int(hidden.sum()) < 35, "for some tasks, and then in all their rows"
    seen = data_of(tmp_path, made_up(), keep=0.1).tasks("test", **SIZES).episodes(range(5))
    assert bool((leaves(seen.support)[0][..., source.table.blocks["dose"]][..., 1] == 0).all())


def bad(number: int, **cells: str) -> list[dict[str, str]]:
    rows = made_up()
    rows[number] = rows[number] | cells
    return rows


@pytest.mark.parametrize(
    "rows, sentence",
    [
        (bad(4, dose="high"), r"Cannot use row 6 of .*t\.csv: dose is 'high', while in 239 other rows it is a number"),
        (bad(4, dose="inf"), r"row 6 of .*: dose is 'inf'\. Leave blank what is not known"),
        (bad(4, y="?"), r"row 6 of .*: y is missing \('\?'\)\. Fill it in, or leave the row out"),
        (bad(4, patient=""), r"row 6 of .*: patient is missing"),
        (bad(4, day="soon"), r"row 6 of .*: day is 'soon'\. Expected a number, or a date such as 2021-03-31"),
        (bad(4, dose="1,2"), r"row 6 of .*: it has 9 fields, and there are 8 columns"),
        (bad(4, dose='"1'), r"Cannot use row \d+ of .*t\.csv: unexpected end of data"),
        (made_up(2), r"the column 'patient' has 2 different names \('p0', 'p1'\).*three groups or more"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, rows: list[dict[str, str]], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        data_of(tmp_path, rows).tasks("train", **SIZES)


def test_files_and_columns_that_cannot_be_used(tmp_path: Path) -> None:
    cases: list[tuple[bytes | None, str]] = [
        (None, r"Cannot read .*x\.csv: No such file or directory\. Check the path"),
        (b"", r"Cannot read .*x\.csv: the file is empty"),
        (b"patient,y,a\n", r"has no rows below the names"),
        (b"patient,y,y\n1,2,3\n", r"row 1 of .*: the column 'y' stands twice in the header"),
        (b"patient,,y\n1,2,3\n", r"a column has no name in the header"),
        (b"patient,y,a\n1,2,\xff\n", r"row 2 of .*: byte 16 is not UTF-8"),
        (b"patient,y\n1,2\n", r"beside group, target and time it has no column to learn from"),
    ]
    for content, sentence in cases:
        path = tmp_path / "x.csv"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=sentence):
            read_table(path, group="patient", target="y")
    with pytest.raises(UnknownName, match=r"There is no column in .*t\.csv called 'patiant'\. Did you mean 'patient'"):
        data_of(tmp_path, made_up(), group="patiant").tasks("train", **SIZES)
    with pytest.raises(InputError, match=r"one column cannot play two parts"):
        data_of(tmp_path, made_up(), target="patient").tasks("train", **SIZES)
    with pytest.raises(InputError, match=r"--data\.file and --data\.target not given"):
        GroupTable(group="patient").tasks("train", **SIZES)
    with pytest.raises(InputError, match=r"keep = 0: expected a share of columns above 0"):
        GroupTable(keep=0)


def test_tasks_that_cannot_be(tmp_path: Path) -> None:
    def tasks(rows: list[dict[str, str]], sizes: dict[str, Any], **options: Any) -> GroupTasks:
        return data_of(tmp_path, rows, **options).tasks("test", **sizes)

    with pytest.raises(InputError, match=r"none of its 8 groups has enough rows \(p\d+: 8 rows of 14"):
        tasks(made_up(), SIZES | {"shot": 12})
    with pytest.raises(InputError, match=r"Cannot draw 3-way tasks from table: its target is a number"):
        tasks(made_up(), SIZES | {"way": 3})
    with pytest.raises(InputError, match=r"its target has 2 classes, ill, well, in every task"):
        tasks(made_up(target="words"), SIZES | {"way": 3})
    with pytest.raises(InputError, match=r"p\d+: 1 rows of the class 'ill', of 2"):
        first = [row | {"y": "ill" if row["day"] == "2021-03-01" else "well"} for row in made_up(target="words")]
        tasks(first, SIZES, time=None)
    with pytest.raises(DataError, match=r"it has 30 different words, 'p0', 'p1', 'p10' \.\.\.; expected 2 to 10"):
        tasks([row | {"y": row["patient"]} for row in made_up()], SIZES)
    with pytest.raises(DataError, match=r"Cannot learn 'y' of .*: it is 3 in all training rows"):
        tasks([row | {"y": "3"} for row in made_up()], SIZES)
    with pytest.raises(QuickstudyError, match=r"no column says anything in the training rows"):
        tasks([{k: row[k] for k in ("patient", "day", "clinic", "y")} for row in made_up()], SIZES)


def test_small_groups_are_named(tmp_path: Path) -> None:
    rows = [row for row in made_up() if row["patient"] != "p7" or row["day"] < "2021-03-03"]
    data = data_of(tmp_path, rows)
    role = next(role for role, names in data.roles.items() if "p7" in names)
    source = data.tasks(role, **SIZES)
    assert source.left_out == {"p7": "2 rows of 5"} == source.settings["left_out"]


def test_one_way_of_numbers_as_names(tmp_path: Path) -> None:
    data = data_of(tmp_path, bad(4, dose="high"), categories=("dose",))
    assert "different words" in data.coded.left_out["dose"]


def test_rows_that_stand_twice_are_one(tmp_path: Path) -> None:
    """Whatever way their missing cells are written; else a row could be known and asked for at once."""
    rows = [row for row in made_up() if row["weight"] in ("", "?", "NaN")]
    twice = [row | {"weight": "NA", "dose": row["dose"] + "0"} for row in rows]
    data = data_of(tmp_path, rows + twice, time=None)
    source = data.tasks("test", **SIZES)
    assert source.settings["rows_repeated"] == len(rows) and sum(len(g.rows) for g in source.groups) == 6 * 8
    kept = data_of(tmp_path, rows + twice, time=None, repeated=True).tasks("test", **SIZES)
    assert kept.settings["rows_repeated"] == 0 and sum(len(g.rows) for g in kept.groups) == 2 * 6 * 8


def test_intervals_are_over_groups(tmp_path: Path) -> None:
    """Eight patients make 200 tasks, of which 192 are said twice: more of them tell nothing of other patients."""
    source = data_of(tmp_path, made_up()).tasks("test", **SIZES)
    episode = source.episodes(range(200))
    assert episode.classes is not None and episode.classes.shape == (200, 1)
    place = episode.classes[:, 0].tolist()
    drawn = source._draw(np.arange(200))
    assert all(set(s) | set(q) <= set(source.groups[g].rows) for g, (s, q) in zip(place, drawn, strict=True))
    values = np.array(place, dtype=np.float64)
    over_groups = class_ci95(values, episode.classes.numpy())
    assert over_groups is not None and over_groups > 4 * episode_ci95(values)


def test_later_rows_of_one_class_are_no_gap_in_the_main_figure(tmp_path: Path) -> None:
    rows = [row | {"y": "ill" if row["day"] == "2021-03-01" else "well"} for row in made_up(target="words")]
    source = data_of(tmp_path, rows).tasks("test", **SIZES)
    episode = source.episodes(range(8))
    found = source.figures(torch.zeros(8, episode.query.n_example, 2), episode)
    assert next(iter(found)) == "accuracy" and np.isfinite(found["accuracy"]).all()
    assert np.isnan(found["auroc"]).all()
    drawn = data_of(tmp_path, made_up(target="words"), time=None).tasks("test", **SIZES)
    assert next(iter(drawn.figures(torch.zeros(8, drawn.episodes(range(8)).query.n_example, 2), episode))) == "auroc"


def test_a_support_has_room_for_every_class(tmp_path: Path) -> None:
    rows = [row | {"y": row["drug"]} for row in made_up()]
    data = data_of(tmp_path, rows, time=None)
    with pytest.raises(InputError, match=r"shot"):
        data.tasks("test", **SIZES | {"shot": 2})
    y = leaves(data.tasks("test", **SIZES).episodes(range(9)).support)[1]
    assert all(set(row.tolist()) == {0, 1, 2} for row in y)


def test_who_plays_which_part_is_kept_with_a_run(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up())
    assert data.divided == data.roles


@pytest.mark.parametrize(
    "rows, sentence",
    [
        (
            [row | {"dose": row["dose"].replace(".", ",")} for row in made_up()],
            r"Cannot use row 2 of .*: dose is '-?\d+,\d+', with a decimal comma, as is every other row",
        ),
        (bad(4, day="2021"), r"row 6 of .*: day is '2021', a number, while before it is a date\. Write all alike"),
    ],
)
def test_what_would_be_misread(tmp_path: Path, rows: list[dict[str, str]], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_table(write(tmp_path / "t", rows, ";"), group="patient", target="y", time="day")
