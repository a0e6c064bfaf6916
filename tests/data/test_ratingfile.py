"""Files of ratings: every format that is promised, and one sentence with file and row for what cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quickstudy.data.ratingfile import ItemFacts, RatingTable, read_items, read_ratings
from quickstudy.errors import DataError
from tests.conftest import needed

ROWS = [("u1", "a", "4", "30"), ("u1", "b", "2.5", "10"), ("u0", "a", "5", "20")]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def listed(table: RatingTable) -> list[tuple[str, str, float, float]]:
    columns = zip(table.user, table.item, table.rating, table.time, strict=True)
    return [(table.users[u], table.items[i], float(r), float(t)) for u, i, r, t in columns]


@pytest.mark.parametrize("mark", [",", "\t", "::", ";"])
@pytest.mark.parametrize("header", ["", "user,item,rating,timestamp", "userId,movieId,rating,timestamp"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_formats(tmp_path: Path, mark: str, header: str, end: str) -> None:
    lines = [mark.join(row) for row in ROWS]
    if header:
        lines = [header.replace(",", mark), *lines]
    table = read_ratings(write(tmp_path / "r", end.join(lines) + end))
    assert listed(table) == [("u0", "a", 5.0, 20.0), ("u1", "b", 2.5, 10.0), ("u1", "a", 4.0, 30.0)]


def test_columns_by_name_in_any_order_and_others_left_out(tmp_path: Path) -> None:
    text = "\ufefftimestamp,note,rating,item,user\n30,x,4,a,u1\n\n20,y,5,a,u0\n"
    assert listed(read_ratings(write(tmp_path / "r.csv", text))) == [("u0", "a", 5.0, 20.0), ("u1", "a", 4.0, 30.0)]


def test_quoted_fields(tmp_path: Path) -> None:
    table = read_ratings(write(tmp_path / "r.csv", 'u1,"a, the first",4,30\nu0,b,5,20\n'))
    assert table.items == ("a, the first", "b")


def test_a_title_may_hold_another_mark(tmp_path: Path) -> None:
    table = read_ratings(write(tmp_path / "r.csv", 'u1,"a; the first",4,30\nu0,b,5,20\n'))
    assert table.items == ("a; the first", "b")


@pytest.mark.parametrize(
    "head",
    ["UserId,ProductId,Score,Time", "reviewer_ID,asin,overall,unixReviewTime", "user,movie_id,rating,date,time stamp"],
)
def test_headers_of_published_files(tmp_path: Path, head: str) -> None:
    rows = ["u1,a,4,30", "u0,a,5,20"]
    extra = ",x" * (head.count(",") - 3)
    rows = [row.rsplit(",", 1)[0] + extra + "," + row.rsplit(",", 1)[1] for row in rows]
    assert listed(read_ratings(write(tmp_path / "r.csv", "\n".join([head, *rows])))) == [
        ("u0", "a", 5.0, 20.0),
        ("u1", "a", 4.0, 30.0),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1372636800", 1372636800),
        ("1372636800000", 1372636800),
        ("1372636800000000", 1372636800),
        ("1372636800000000000", 1372636800),
        ("1.3726368e9", 1372636800),
        ("2013-07-01", 1372636800),
        ("2013-07-01 00:00:00", 1372636800),
        ("2013-07-01T02:00:00+02:00", 1372636800),
        ("2013-07-01T00:00:00.500Z", 1372636800.5),
        ("1e-3", 0.001),
        ("-5", -5),
    ],
)
def test_times(tmp_path: Path, text: str, seconds: float) -> None:
    assert read_ratings(write(tmp_path / "r.csv", f"u1,a,4,{text}\nu0,a,5,20\n")).time[1] == seconds


def test_one_time_keeps_the_order_of_rows(tmp_path: Path) -> None:
    table = read_ratings(write(tmp_path / "r", "u,z,1,5\nu,a,2,5\nu,m,3,5\nv,a,1,1\n"))
    assert [table.items[i] for i in table.item] == ["z", "a", "m", "a"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=2, max_size=25, unique=True),
    data=st.data(),
)
def test_rows_in_any_order(tmp_path: Path, pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whatever stands where: of other rows' order nothing is left, as long as times differ."""
    if len({user for user, _ in pairs}) < 2:
        return
    lines = [f"{user},{item},{item % 5},{17 * place}" for place, (user, item) in enumerate(pairs)]
    one = listed(read_ratings(write(tmp_path / "a", "\n".join(lines))))
    other = listed(read_ratings(write(tmp_path / "b", "\n".join(data.draw(st.permutations(lines))))))
    assert one == other == sorted(one, key=lambda row: (row[0], row[3]))


GOOD = "u1,a,4,30\nu0,b,5,20\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"Cannot read .*bad\.csv: the file is empty\. Expected rows of user, item, rating and timestamp"),
        ("\n  \n", r"bad\.csv: the file is empty"),
        ("user,item,rating,timestamp\n", r"Cannot read ratings from .*bad\.csv: the file has no rating\."),
        (
            "user,item,rating\nu,a,4\n",
            r"row 1 of .*bad\.csv: the header \['user', 'item', 'rating'\] has no column 'time",
        ),
        (
            "customer,article,value,when\n" + GOOD,
            r"row 1 of .*bad\.csv: the header \['customer', 'article', 'value', 'when'\] has no column 'user'\.",
        ),
        ("u,a,4\n", r"row 1 of .*bad\.csv: the row has 3 columns, the header is missing, and 4 are needed"),
        ("hello\n", r"row 1 of .*bad\.csv: 'hello' has a single column"),
        (GOOD + "u1,c,good,40\n", r"row 3 of .*bad\.csv: the rating is 'good'\. Expected a number\."),
        (GOOD + "u1,c,,40\n", r"row 3 of .*bad\.csv: the rating is ''\. Expected a number\."),
        (
            GOOD + "u1,c,3,1 July 2013\n",
            r"row 3 of .*: the timestamp is '1 July 2013'\. Expected seconds since 1970, or a date such as 2013-07-01",
        ),
        (GOOD + "\nu1,c,nan,40\n", r"row 4 of .*bad\.csv: the rating is nan\. Leave out what is not known\."),
        (GOOD + "u1,c,inf,40\n", r"row 3 of .*bad\.csv: the rating is inf"),
        (GOOD + "u1,c,3,nan\n", r"row 3 of .*bad\.csv: the timestamp is nan"),
        (GOOD + "u1,c,3\n", r"row 3 of .*bad\.csv: it has 3 columns, the first row has 4"),
        (
            GOOD + "u1,c, the 2nd,3,40\n",
            r"row 3 of .*bad\.csv: it has 5 columns, the first row has 4\. .* quote fields",
        ),
        (
            "user,movie,product,rating,time\nu,a,b,4,1\n",
            r"row 1 of .*bad\.csv: the columns 'movie' and 'product' may both be the item\. Call one 'item'",
        ),
        (GOOD.replace("\n", "\r"), r"row 1 of .*bad\.csv: it is not CSV \(new-line character seen"),
        (GOOD + ",c,3,40\n", r"row 3 of .*bad\.csv: the user is empty"),
        (GOOD + "u1,,3,40\n", r"row 3 of .*bad\.csv: the item is empty"),
        (
            GOOD + "u1,a,3,40\n",
            r"row 3 of .*bad\.csv: user 'u1' rated item 'a' in row 1 already\. Leave one of them out",
        ),
        (GOOD.replace("u0", "u1"), r"Cannot make tasks of .*bad\.csv: all 2 ratings are of one user, 'u1'\."),
        (
            GOOD.encode() + b"u1,\xff,3,40\n",
            r"row 3 of .*bad\.csv: byte 3 is not UTF-8\. Save the file as text in UTF-8",
        ),
    ],
)
def test_bad_files(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_ratings(write(tmp_path / "bad.csv", text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*none\.csv: No such file or directory\. Check the path\."):
        read_ratings(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"Is a directory"):
        read_ratings(tmp_path)


@pytest.mark.parametrize(("keep", "rating"), [("first", 1.0), ("last", 9.0)])
def test_the_earlier_or_the_later_of_two(tmp_path: Path, keep: str, rating: float) -> None:
    table = read_ratings(write(tmp_path / "r", "u,a,9,30\nu,b,5,15\nu,a,1,10\nu,a,4,20\nv,a,2,1\n"), keep)  # type: ignore[arg-type]
    assert [row[2] for row in listed(table) if row[:2] == ("u", "a")] == [rating]
    assert len(listed(table)) == 3


def test_items(tmp_path: Path) -> None:
    path = write(tmp_path / "m", "1::Heat (1995)::Crime|Drama\n2::Nothing known::\n")
    assert read_items(path) == {"1": ItemFacts(1995, ("Crime", "Drama")), "2": ItemFacts(None, ())}
    path = write(tmp_path / "m1.csv", '1,"Heat; the film (1995)",Crime|Drama\n')
    assert read_items(path) == {"1": ItemFacts(1995, ("Crime", "Drama"))}
    path = write(tmp_path / "m.csv", "year,item,genres\n1995,1,Crime\n,2,\n")
    assert read_items(path) == {"1": ItemFacts(1995, ("Crime",)), "2": ItemFacts(None, ())}
    with pytest.raises(DataError, match=r"row 2 of .*m2: the item '1' stands in an earlier row, too"):
        read_items(write(tmp_path / "m2", "1::A::\n1::B::\n"))
    with pytest.raises(DataError, match=r"row 2 of .*m3: the year is 'old'"):
        read_items(write(tmp_path / "m3", "item,year\n1,old\n"))


def test_published(data_root: Path) -> None:
    table = read_ratings(needed(data_root / "movietweetings") / "snapshots" / "100K" / "ratings.dat")
    assert (len(table.rating), len(table.users), len(table.items)) == (100_000, 16_554, 10_506)
    assert (np.diff(table.user) >= 0).all()
    assert (np.diff(table.time)[np.diff(table.user) == 0] >= 0).all()
