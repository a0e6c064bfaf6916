"""Any table as tasks: what is read, what is refused, and that nothing of a test group enters what is measured."""

import json
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
from quickstudy.evaluate.scores import score

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
    assert list(found) == ["mae", "rmse", "mse"]
    for name, power in (("mae", 1), ("rmse", 1), ("mse", 2)):
        assert found[name] == pytest.approx([source.asked.std**power] * 3, rel=1e-4)
    scores = score(y + 1.0, episode, source)
    assert set(scores.others) == {"rmse", "mse"} and scores.others["mse"] == pytest.approx(found["mse"])


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
        (bad(4, dose="1e200"), r"row 6 of .*: dose is '1e200'\. Leave blank what is not known, or use another unit"),
        (bad(4, dose="1_000"), r"row 6 of .*: dose is '1_000', while in 239 other rows it is a number"),
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
        (b"PK\x03\x04\xff", r"Cannot read .*x\.csv: it is a workbook or an archive, no text\. Save the sheet as CSV"),
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
    with pytest.raises(InputError, match=r"--table and --target not given\. Say which"):
        GroupTable(group="patient").tasks("train", **SIZES)
    with pytest.raises(InputError, match=r"keep = 0: expected a share of columns above 0"):
        GroupTable(keep=0)


def test_tasks_that_cannot_be(tmp_path: Path) -> None:
    def tasks(rows: list[dict[str, str]], sizes: dict[str, Any], **options: Any) -> GroupTasks:
        return data_of(tmp_path, rows, **options).tasks("test", **sizes)

    with pytest.raises(
        InputError, match=r"none of its 8 groups has enough rows \(p\d+: 8 rows of 14.*--episodes\.test\.shot N"
    ):
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


def test_small_groups_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row for row in made_up() if row["patient"] != "p7" or row["day"] < "2021-03-03"]
    data = data_of(tmp_path, rows)
    role = next(role for role, names in data.roles.items() if "p7" in names)
    source = data.tasks(role, **SIZES)
    assert source.left_out == {"p7": "2 rows of 5"} == source.settings["left_out"]
    of = len(source.groups) + 1
    assert f"1 of {of} groups are left out of {role}, such as p7: 2 rows of 5." in caplog.text


def test_one_way_of_numbers_as_names(tmp_path: Path) -> None:
    data = data_of(tmp_path, bad(4, dose="high"), categories=("dose",))
    assert "different words" in data.coded.left_out["dose"]


def test_missing_targets_are_counted(tmp_path: Path) -> None:
    rows = made_up()
    for number in (4, 7, 9):
        rows[number] = rows[number] | {"y": "NULL"}
    with pytest.raises(DataError, match=r"row 6 of .*: y is missing \('NULL'\), as in 2 more\. .* leave such rows out"):
        data_of(tmp_path, rows).tasks("train", **SIZES)


def test_what_is_missing(tmp_path: Path) -> None:
    """Whatever other programs write for it, in columns of numbers and of words alike."""
    marks = ["", "?", "NA", "nan", "N/A", "null", "<NA>", "."]
    rows = [
        row | ({"dose": mark, "drug": mark} if n % 3 else {})
        for n, row in enumerate(made_up())
        for mark in [marks[n % 8]]
    ]
    data = data_of(tmp_path, rows)
    assert data.coded.blocks["drug"].stop - data.coded.blocks["drug"].start == 3
    assert data.coded.x[:, data.coded.blocks["dose"]][:, 1].mean() == pytest.approx(2 / 3)


def test_a_target_of_codes_has_classes_where_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row | {"y": ("0", "1", "1.0", "0.0")[n % 4]} for n, row in enumerate(made_up())]
    data_of(tmp_path, rows).tasks("train", **SIZES)
    assert "y has two values and is taken for a number. If they are classes, say --data.classes true" in caplog.text
    source = data_of(tmp_path, rows, classes=True, time=None).tasks("test", **SIZES)
    assert source.asked.classes == ("0", "1") and source.shape.target == "classes"


def test_columns_that_are_not_to_be_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = data_of(tmp_path, made_up(), without=("dose", "note"))
    data.tasks("train", **SIZES)
    assert set(data.coded.blocks) == {"drug", "weight"} and set(data.coded.left_out) == {"clinic"}
    assert "Columns that are left out: clinic: the same in all training rows." in caplog.text
    with pytest.raises(UnknownName, match=r"called 'doze'\. Did you mean 'dose'"):
        data_of(tmp_path, made_up(), without=("doze",)).tasks("train", **SIZES)
    with pytest.raises(InputError, match=r"one column cannot play two parts"):
        data_of(tmp_path, made_up(), without=("y",)).tasks("train", **SIZES)


def test_rows_of_one_patient_under_two_names_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = made_up()
    roles = data_of(tmp_path, rows).roles
    copied = {roles["test"][0]: roles["train"][0]}
    by_name = {name: [row for row in rows if row["patient"] == name] for name in {row["patient"] for row in rows}}
    rows = [row for row in rows if row["patient"] not in copied]
    rows += [row | {"patient": new} for new, old in copied.items() for row in by_name[old]]
    source = data_of(tmp_path, rows).tasks("test", **SIZES)
    assert source.settings["rows_shared"] == 8
    assert "8 rows of groups that validate or test stand in training groups, too, cell by cell" in caplog.text
    assert data_of(tmp_path, made_up()).tasks("test", **SIZES).settings["rows_shared"] == 0


def grown(rows: list[dict[str, str]], patients: int = 40) -> list[dict[str, str]]:
    """The same rows, more of each of these patients, and more patients, in other units and with other words."""
    later = [row | {"day": f"2022-{row['day'][5:]}", "dose": "500", "drug": "Z", "y": "900"} for row in rows]
    more = [row | {"patient": f"q{row['patient']}", "dose": "700"} for row in made_up(patients)]
    return [*more, *rows, *later]


def test_a_run_reads_a_table_as_it_was_trained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same rows are the same features and the same target, however the table has grown."""
    rows = made_up()
    before = data_of(tmp_path, rows)
    kept = json.loads(json.dumps([before.measured, before.divided]))
    after = data_of(tmp_path, grown(rows)).as_trained(*kept)
    place = [*range(320, 320 + len(rows))]
    assert np.array_equal(after.coded.x[place], before.coded.x) and after.coded.left_out == before.coded.left_out
    assert (after.asked.mean, after.asked.std) == (before.asked.mean, before.asked.std)
    assert after.measured == before.measured
    anew = data_of(tmp_path, grown(rows))
    assert not np.array_equal(anew.coded.x[place][:, :2], before.coded.x[:, :2]), "measured anew it is another table"
    # Who trained and who validated keep their part; all others are new, and test.
    assert after.roles["train"] == before.roles["train"] and after.roles["validation"] == before.roles["validation"]
    assert set(after.roles["test"]) == {*before.roles["test"], *(f"qp{n}" for n in range(40))}
    source = after.tasks("test", **SIZES)
    assert source.settings["words_unknown"] == {"drug": ["Z"]}
    assert "Words that no training row has, and that therefore say nothing: drug: 'Z'." in caplog.text


def test_a_run_reads_another_table(tmp_path: Path) -> None:
    """Columns in another order, more of them with whatever in them, and one of words that are all numbers now."""
    rows = made_up(target="words")
    before = data_of(tmp_path, rows, time=None)
    kept = before.measured, before.divided
    theirs = [
        {
            "x": ("1", "two", "1,5")[n % 3],
            **dict(reversed(row.items())),
            "patient": f"r{row['patient']}",
            "drug": str(n % 2),
        }
        for n, row in enumerate(rows)
    ]
    # Written as CSV needs its quotes for what holds a comma.
    path = write(tmp_path / "theirs.csv", [{k: f'"{v}"' for k, v in row.items()} for row in theirs])
    other = GroupTable(file=path, group="patient", target="y").as_trained(*kept)
    assert np.array_equal(other.coded.x[:, :2], before.coded.x[:, :2]), "doses"
    assert other.coded.x[:, other.coded.blocks["drug"]].sum() == 0
    assert np.array_equal(other.asked.y, before.asked.y) and len(other.roles["test"]) == 30
    two = GroupTable(file=write(tmp_path / "two.csv", made_up(2, target="words")), group="patient", target="y")
    assert two.as_trained(before.measured, {}).roles["test"] == ["p0", "p1"], "a run needs no three groups"


def test_a_table_that_a_run_cannot_read(tmp_path: Path) -> None:
    rows = made_up()
    before = data_of(tmp_path, rows)
    kept = before.measured, before.divided

    def read(rows: list[dict[str, str]], **options: Any) -> GroupTasks:
        return data_of(tmp_path, rows, **options).as_trained(*kept).tasks("test", **SIZES)

    with pytest.raises(DataError, match=r"Cannot use .*t\.csv: it has no column 'dose', which training had\. Name the"):
        read([{k: v for k, v in row.items() if k != "dose"} for row in rows])
    with pytest.raises(
        DataError, match=r"row 2 of .*: dose is 'high', while in training it was a number\. Correct it, or .*known\.$"
    ):
        read([row | {"dose": "high"} for row in rows])
    with pytest.raises(DataError, match=r"row 2 of .*: y is 'well', while in training it was a number"):
        read([row | {"y": "well"} for row in rows])
    with pytest.raises(DataError, match=r"for test: all of these names trained or validated the run\. Give other"):
        read([row for row in rows if row["patient"] in before.roles["train"]])
    with pytest.raises(InputError, match=r"by 'drug': it was trained on rows of this table by 'patient', and would be"):
        read(rows, group="drug", categories=())
    with pytest.raises(InputError, match=r"Cannot ask for 'dose': it is a column that the run was trained to know"):
        read(rows, target="dose")
    words = data_of(tmp_path, made_up(target="words"))
    of_words = words.measured, words.divided
    after = data_of(
        tmp_path, [row | {"y": "dead"} if row["day"] == "2021-03-02" else row for row in made_up(target="words")]
    )
    with pytest.raises(DataError, match=r"'y' has the class 'dead', and the run was trained on 'ill', 'well'\. Write"):
        after.as_trained(*of_words).tasks("test", **SIZES)


def test_rows_that_stand_twice_are_one(tmp_path: Path) -> None:
    """Whatever way their missing cells are written; else a row could be known and asked for at once."""
    rows = [row for row in made_up() if row["weight"] in ("", "?", "NaN")]
    twice = [row | {"weight": "NA", "dose": row["dose"] + "0"} for row in rows]
    data = data_of(tmp_path, rows + twice, time=None)
    source = data.tasks("test", **SIZES)
    assert source.settings["rows_repeated"] == len(rows) * 8 // 30 and sum(len(g.rows) for g in source.groups) == 6 * 8
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
        (
            [row | {"dose": str(n)} if n % 3 else row | {"dose": f"{n},5"} for n, row in enumerate(made_up())],
            r"Cannot use row 2 of .*: dose is '0,5', with a decimal comma, as are 80 rows in all\. Write numbers",
        ),
        (bad(4, day="2021"), r"row 6 of .*: day is '2021', a number, while before it is a date\. Write all alike"),
    ],
)
def test_what_would_be_misread(tmp_path: Path, rows: list[dict[str, str]], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_table(write(tmp_path / "t", rows, ";"), group="patient", target="y", time="day")
