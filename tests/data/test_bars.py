"""Bars as files: what is read, and each sentence for what cannot be."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.data.bars import CLOSE, OPEN, VOLUME, read_bars, read_zipped_bars
from quickstudy.errors import DataError

HEAD = "date,open,high,low,close,volume,symbol"
GOOD = ["2020-01-02,10,11,9,10.5,1000,AAA", "2020-01-03,10.5,12,10,11,900,AAA", "2020-01-06,11,12,10,10.2,0,AAA"]


def write(folder: Path, rows: list[str], name: str = "bars.csv", head: str = HEAD) -> Path:
    path = folder / name
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_one_file(tmp_path: Path) -> None:
    other = [row.replace("AAA", "BBB") for row in GOOD]
    shares = read_bars(write(tmp_path, [row for pair in zip(GOOD, other, strict=True) for row in pair]))
    assert [share.symbol for share in shares] == ["AAA", "BBB"]
    assert shares[0].dates.tolist() == shares[1].dates.tolist() and len(shares[0].dates) == 3
    assert shares[1].bars[1].tolist() == [10.5, 12, 10, 11, 900]


def test_one_a_share_in_a_folder_other_columns_order_and_separator(tmp_path: Path) -> None:
    head = "Close;Date;Open;High;Low;Volume;Adjusted"
    write(tmp_path, ["10.5;2020-01-02;10;11;9;7;1"], "XYZ.csv", head)
    write(tmp_path, ["20.5;2020-01-02;20;21;19;8;1"], "ABC.CSV", head)
    (tmp_path / "notes.txt").write_text("no bars")
    shares = read_bars(tmp_path)
    assert [share.symbol for share in shares] == ["ABC", "XYZ"]
    assert shares[0].bars[0].tolist() == [20, 21, 19, 20.5, 8]


def test_a_blank_open_is_a_day_without_range(tmp_path: Path) -> None:
    (share,) = read_bars(write(tmp_path, [*GOOD, "2020-01-07,,11,9,10,,AAA"]))
    assert np.isnan(share.bars[3, [OPEN, VOLUME]]).all() and share.bars[3, CLOSE] == 10
    assert share.ranged.tolist() == [True, True, True, False]


BAD = {
    "missing columns": (
        GOOD,
        "date,open,high,low,price,volume,symbol",
        r"bars\.csv, row 1: the column close is missing",
    ),
    "two missing": (
        GOOD,
        "date,a,b,low,close,volume,symbol",
        r"row 1: the columns open, high are missing, found date, a",
    ),
    "no rows": ([], HEAD, r"bars\.csv: it has no rows below its head"),
    "too few fields": ([*GOOD, "2020-01-07,1,2"], HEAD, r"bars\.csv, row 5: expected 7 fields as in the head, found 3"),
    "mixed types": (
        [*GOOD, "2020-01-07,ten,11,9,10,5,AAA"],
        HEAD,
        r"row 5: the open is 'ten', which is no finite numb",
    ),
    "NaN": ([*GOOD, "2020-01-07,10,11,9,NaN,5,AAA"], HEAD, r"row 5: the close is 'NaN', which is no finite number"),
    "infinite": ([*GOOD, "2020-01-07,10,inf,9,10,5,AAA"], HEAD, r"row 5: the high is 'inf', which is no finite number"),
    "blank close": (
        [GOOD[0], "2020-01-07,10,11,9,,5,AAA"],
        HEAD,
        r"row 3: the close is blank \(NaN\)\. Every day needs",
    ),
    "negative": ([*GOOD, "2020-01-07,10,11,-9,10,5,AAA"], HEAD, r"row 5: the low is -9\. Prices must be above 0"),
    "zero": ([*GOOD, "2020-01-07,10,11,9,0,5,AAA"], HEAD, r"row 5: the close is 0\. Prices must be above 0"),
    "volume": ([*GOOD, "2020-01-07,10,11,9,10,-5,AAA"], HEAD, r"row 5: the volume is -5\. It cannot be below 0"),
    "crossed": ([*GOOD, "2020-01-07,10,9,11,10,5,AAA"], HEAD, r"row 5: the high \(9\) is below the low \(11\)\."),
    "twice": ([*GOOD, GOOD[1]], HEAD, r"row 5: AAA has the date 2020-01-03 already in row 3\. Keep one row a day"),
    "order": ([*GOOD, "2020-01-04,10,11,9,10,5,AAA"], HEAD, r"row 5: the dates of AAA are out of order: 2020-01-04 fo"),
    "date": ([*GOOD, "07.01.2020,10,11,9,10,5,AAA"], HEAD, r"row 5: expected a date such as 2017-03-31, found '07\.01"),
    "no such day": ([*GOOD, "2020-02-30,10,11,9,10,5,AAA"], HEAD, r"row 5: expected a date such as .*'2020-02-30'"),
    "no symbol": ([*GOOD, "2020-01-07,10,11,9,10,5,"], HEAD, r"row 5: the symbol is blank\. Give every row its share"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_files_name_file_and_row(tmp_path: Path, case: str) -> None:
    rows, head, sentence = BAD[case]
    with pytest.raises(DataError, match=sentence):
        read_bars(write(tmp_path, rows, head=head))


def test_what_is_no_file_of_bars(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"there is no file or folder .*nothing\. Give a CSV file, or a folder of one a s"
    ):
        read_bars(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"the folder .* holds no file that ends in \.csv"):
        read_bars(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"date,\xff\xfe")
    with pytest.raises(DataError, match=r"a\.csv: it is not UTF-8 text"):
        read_bars(tmp_path)


def test_a_symbol_in_two_files(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.csv")
    write(tmp_path, GOOD, "b.csv")
    with pytest.raises(DataError, match=r"b\.csv: the symbol 'AAA' occurs in .*a\.csv too\. Keep all days of a share"):
        read_bars(tmp_path)


def test_the_published_zip_cut_off_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "individual.zip"
    with pytest.raises(
        DataError, match=r"there is no file .*individual\.zip\. It is published with the Kaggle data set"
    ):
        read_zipped_bars(path)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(
            "x/A_data.csv", "\n".join([HEAD.replace("symbol", "Name"), *GOOD, "2020-01-07,1,9,11,10,5,AAA"])
        )
    (share,) = read_zipped_bars(path)
    assert share.ranged.tolist() == [True, True, True, False], "a row that contradicts itself has no range"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"individual\.zip: it is half downloaded or damaged"):
        read_zipped_bars(path)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), seed=st.integers(0, 100))
def test_rows_of_shares_may_be_mixed_in_any_way(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seed: int
) -> None:
    """Ragged shares, interleaved: each keeps its own days in order."""
    folder = tmp_path_factory.mktemp("mixed")
    left = {f"S{number}": list(range(length)) for number, length in enumerate(lengths)}
    draw, rows = random.Random(seed), []
    while any(left.values()):
        symbol = draw.choice([name for name, days in left.items() if days])
        rows.append(f"2020-01-{left[symbol].pop(0) + 1:02d},10,11,9,{10 + int(symbol[1:]) / 10},5,{symbol}")
    shares = read_bars(write(folder, rows))
    assert {share.symbol: len(share.dates) for share in shares} == {f"S{n}": k for n, k in enumerate(lengths)}
    assert all(share.bars[0, CLOSE] == 10 + int(share.symbol[1:]) / 10 for share in shares)
