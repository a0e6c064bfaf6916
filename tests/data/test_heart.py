"""Four hospitals: who plays which part, what zeros mean, and that the new hospital is not looked at."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.heart import COLUMNS, HeartDisease, _cleaned
from quickstudy.errors import DataError, InputError, UnknownName
from tests.conftest import needed

SIZES: dict[str, Any] = {"shot": [5, 10], "query": [6, 30], "seed": 0}


@pytest.fixture(scope="module")
def root(data_root: Path) -> Path:
    needed(data_root / "uci-heart-disease")
    return data_root


@pytest.mark.parametrize("hospital, size", [("cleveland", 303), ("hungarian", 293), ("switzerland", 123), ("va", 199)])
def test_one_hospital_is_new(root: Path, hospital: str, size: int) -> None:
    data = HeartDisease(root, hospital=hospital)
    roles = data.roles
    assert len(roles["test"]) == size and sum(map(len, roles.values())) == 918
    assert len(np.unique(np.concatenate(list(roles.values())))) == 918
    assert 0.15 < len(roles["validation"]) / (918 - size) < 0.25
    source = data.tasks("test", shot=10, query=[10, 400], seed=0, way=2)
    assert [group.name for group in source.groups] == [hospital]
    episode = source.episodes(range(3))
    assert episode.query.n_example == size - 10 and not any(
        hospital in g.name for g in data.tasks("train", **SIZES).groups
    )


def test_tasks_are_hospital_and_stratum(root: Path) -> None:
    names = {group.name for group in HeartDisease(root).tasks("train", **SIZES).groups}
    assert {"cleveland, women", "hungarian, older", "switzerland, men"} <= names


@pytest.mark.parametrize("hospital", ["hungarian", "va"])
def test_no_row_is_labelled_and_asked_for(root: Path, hospital: str) -> None:
    """Two patients stand twice in the published files, cell by cell; a task that labels one asks for no copy."""
    source = HeartDisease(root, hospital=hospital).tasks("test", shot=10, query=[10, 400], seed=0)
    assert source.settings["rows_repeated"] == 2
    rows = [(*row, label) for row, label in zip(source.table.x.tolist(), source.asked.y.tolist(), strict=True)]
    for support, query in source._draw(np.arange(60)):
        assert not {rows[row] for row in support} & {rows[row] for row in query}
    mine = [rows[row] for row in source.groups[0].rows]
    assert len(mine) == len(set(mine))


def test_a_hospital_validates(root: Path) -> None:
    """As the new one tests: nobody of it trains, and a task asks for all its patients."""
    data = HeartDisease(root, hospital="va", validation="cleveland")
    place = data._table[2]
    assert {int(p) for p in place[data.roles["train"]]} == {1, 2} and set(place[data.roles["validation"]]) == {0}
    assert data.divided == {"train": ["hungarian", "switzerland"], "validation": ["cleveland"], "test": ["va"]}
    source = data.tasks("validation", shot=10, query=[10, 400], seed=0)
    assert [group.name for group in source.groups] == ["cleveland"] and len(source.groups[0].rows) == 303
    assert not any("cleveland" in group.name for group in data.tasks("train", **SIZES).groups)
    with pytest.raises(UnknownName, match=r"no validation of uci-heart called 'va'"):
        HeartDisease(validation="va")


def test_columns_that_are_not_to_be_known(root: Path) -> None:
    blocks = HeartDisease(root).coded.blocks
    data = HeartDisease(root, without=("ca", "age"))
    assert set(data.coded.blocks) == set(blocks) - {"ca", "age"}
    assert {g.name for g in data.tasks("train", **SIZES).groups} == {
        g.name for g in HeartDisease(root).tasks("train", **SIZES).groups
    }, "strata of age are there"
    with pytest.raises(UnknownName, match=r"no column of uci-heart called 'cal'\. Did you mean 'ca'"):
        HeartDisease(without=("cal",))


def test_a_run_reads_patients_as_it_was_trained(root: Path, tmp_path: Path) -> None:
    before = HeartDisease(root, hospital="va")
    copied(root, tmp_path)
    path = tmp_path / "uci-heart-disease" / "processed.hungarian.data"
    path.write_text(path.read_text() + "90,1,4,300,900,1,2,60,1,9,3,2.0,7,1\n")
    after = HeartDisease(tmp_path, hospital="va")
    rows = after.roles["test"]
    assert not np.array_equal(after.coded.x[rows], before.coded.x[before.roles["test"]])
    kept = after.as_trained(before.measured, before.divided)
    assert np.array_equal(kept.coded.x[rows], before.coded.x[before.roles["test"]])


def test_zeros_that_cannot_be_are_missing() -> None:
    row = ["63", "1", "4", "0", "0", "0", "1", "0", "0", "0", "0", "0", "0", "2"]
    cleaned = dict(zip((*COLUMNS, "num"), _cleaned(row), strict=True))
    missing = {name for name, cell in cleaned.items() if cell == "?"}
    assert missing == {"trestbps", "chol", "thalach", "exang", "oldpeak", "slope", "ca", "thal"}
    counted = _cleaned(
        ["63.0", "1.0", "1.0", "145.0", "233.0", "1.0", "2.0", "150.0", "0.0", "2.3", "3.0", "0.0", "6.0", "0"]
    )
    assert "?" not in counted


def copied(root: Path, to: Path) -> Path:
    shutil.copytree(root / "uci-heart-disease", to / "uci-heart-disease")
    for path in (to / "uci-heart-disease").iterdir():
        path.chmod(0o644)
    return to


def test_the_new_hospital_is_not_looked_at(root: Path, tmp_path: Path) -> None:
    """Its patients are all others: features, strata and tasks of training stay, bit for bit."""
    before = HeartDisease(root, hospital="va")
    copied(root, tmp_path)
    (tmp_path / "uci-heart-disease" / "processed.va.data").write_text(
        "\n".join(f"{90 + n % 9},0,1,300,{900 + n},1,2,60,1,9,3,1.0,7,{n % 3}" for n in range(50))
    )
    after = HeartDisease(tmp_path, hospital="va")
    for role in ("train", "validation"):
        one, other = (data.tasks(role, **SIZES).episodes(range(30)) for data in (before, after))
        for a, b in ((one.support, other.support), (one.query, other.query)):
            assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)  # type: ignore[arg-type]
    assert len(after.roles["test"]) == 50


def test_published_files_give_the_same(root: Path, tmp_path: Path) -> None:
    """With ``?`` for what is missing, as published."""
    copied(root, tmp_path)
    for path in (tmp_path / "uci-heart-disease").glob("*.data"):
        path.write_text("\n".join(",".join(_cleaned(line.split(","))) for line in path.read_text().split()))
    one, other = HeartDisease(root).coded.x, HeartDisease(tmp_path).coded.x
    assert np.array_equal(one, other)


def test_synthetic_tables_first(root: Path) -> None:
    source = HeartDisease(root, synthetic=8).tasks("train", **SIZES)
    plain = HeartDisease(root).tasks("train", **SIZES)
    both = source.episodes(range(6, 10))
    alone = source.episodes(range(6, 7))
    assert torch.equal(both.support.task(0).x, alone.support.task(0).x)  # type: ignore[arg-type]
    assert torch.equal(both.query.task(3).x, plain.episodes(range(9, 10)).query.task(0).x)  # type: ignore[arg-type]
    assert source.settings["synthetic"] == 8
    assert HeartDisease(root, synthetic=8).tasks("test", shot=10, query=20, seed=0).episodes(range(2)).n_task == 2


def test_what_cannot_be(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no hospital of uci-heart called 'vaa'\. Did you mean 'va'"):
        HeartDisease(hospital="vaa")
    with pytest.raises(InputError, match=r"keep = 1\.0 and synthetic = -1"):
        HeartDisease(synthetic=-1, keep=1.0)
    with pytest.raises(InputError, match=r"Cannot draw 5-way tasks from uci-heart: its target has 2 classes"):
        HeartDisease(root).tasks("train", way=5, **SIZES)
    with pytest.raises(DataError, match=r"there is no file .*processed\.cleveland\.data\. Put the four files"):
        HeartDisease(tmp_path).tasks("train", **SIZES)
    copied(root, tmp_path)
    path = tmp_path / "uci-heart-disease" / "processed.va.data"
    path.write_text(path.read_text().replace("\n", ",9\n", 1))
    with pytest.raises(DataError, match=r"row 1 of .*va\.data: it has 15 fields, and there are 14 columns"):
        HeartDisease(tmp_path).tasks("train", **SIZES)
    path.write_text("63,1,4,140,260,0,1,112,1,3,2,0,0,7\n")
    with pytest.raises(DataError, match=r"row 1 of .*va\.data: the diagnosis is '7'\. Expected 0 to 4"):
        HeartDisease(tmp_path).tasks("train", **SIZES)


def test_the_hospitals_that_trained_are_kept_with_a_run() -> None:
    """So that a learner that was trained without the V.A. is not tested on Cleveland, which it knows."""
    parts = HeartDisease(hospital="va").divided
    assert parts["train"] == ["cleveland", "hungarian", "switzerland"] and parts["test"] == ["va"]
    assert not set(parts["train"]) & set(parts["validation"])
    assert set(parts["train"]) & set(HeartDisease(hospital="cleveland").divided["test"])
