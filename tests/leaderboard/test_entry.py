"""A row's file: what is read, and what cannot be right, each with its field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from quickstudy.errors import DataError
from quickstudy.evaluate.kept import load_kept
from quickstudy.leaderboard import read_entry
from quickstudy.leaderboard.entry import read_result
from tests.evaluate.fakes import a_result
from tests.leaderboard.rows import edited, infinite, made, row

RESULTS = Path(__file__).parents[2] / "results"


def test_every_file_of_the_repository_is_a_row() -> None:
    some = sorted(RESULTS.glob("*/*.json"))[::9]
    assert len(some) > 20
    for path in some:
        assert read_entry(path).about.row


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = row(tmp_path, "maml", made(), train_seconds=3.5, energy={"watt_hours": 1.0, "assumption": "a core"})
    entry = read_entry(path)
    assert (entry.about.row, entry.about.train_seconds, entry.about.seed) == ("maml", 3.5, None)
    assert entry.about.energy is not None and entry.about.energy.watt_hours == 1
    assert read_result(path)[0] == entry.result


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"mean": 1.2}, r"mean or a figure of per_episode is 1\.2, and the metric accuracy lies between 0 and 1"),
    ({"mean": -0.1}, r"mean or a figure of per_episode is -0\.1"),
    ({"mean": 0.5}, r"mean is 0\.5, and the mean of per_episode is 0\.7992"),
    ({"ci95": 0.001}, r"ci95 is 0\.001, and that of per_episode is 0\.0"),
    ({"median": 0.1}, r"median is 0\.1, and that of per_episode is 0\.8"),
    ({"mean": math.nan}, r"per_episode is NaN|mean: Input should be"),
    ({"episodes": 49}, r"episodes is 49, and per_episode has 50 figures"),
    ({"seconds": -1.0}, "seconds is -1, and no test takes that long"),
    ({"metric": "acuracy"}, r"metric: There is no metric called 'acuracy'\. Did you mean 'accuracy'"),
    ({"split": "train"}, "split is 'train': a row is of test tasks"),
    ({"split": "vinyals/train+validation"}, "split is 'vinyals/train"),
    ({"way": 1}, "way is 1, and no task has that"),
    ({"shot": 0}, "shot is 0, and no task has that: expected 1 or more"),
    ({"way": [9, 5]}, r"way is \(9, 5\), and no task has that"),
    ({"query": 7}, r"per_episode\[\d+\] is 0\.\d+, and no number of right answers to 5 x 7 queries gives that"),
    ({"source_hash": "hash of the data"}, "source_hash is 'hash of the data', which is no digest"),
    ({"diverged": 51}, "diverged is 51 of 50 episodes"),
    ({"episodes": 0, "per_episode": [], "diverged": 3}, "episodes is 0: a row needs 2 or more, for an interval"),
    ({"first": -1}, "first is -1, seed is 0 and learner_seed is 0"),
    ({"learner_seed": -1}, "and learner_seed is -1: expected whole numbers"),
    ({"source__way": 20}, r"way is 5, and source\.way is 20"),
    ({"source__split": "vinyals/test"}, r'split is "test", and source\.split is "vinyals/test"'),
    ({"data": "caltech101"}, r'data is "caltech101", and source\.data is'),
    ({"mean_converged": 0.9}, r"mean_converged is 0\.9, and mean 0\.7992, though no episode diverged"),
    ({"ci95_converged": 0.0}, r"ci95_converged is 0, and ci95 0\.\d+, though no episode diverged"),
    ({"diverged": 1, "mean_converged": 1.5}, r"mean_converged is 1\.5 ± 0\.\d+, and no choice of episodes"),
    ({"ci95_classes": "Infinity"}, r"ci95_classes is inf, and a half-width is 0 or more, and finite"),
    ({"ci95_classes": -0.1}, r"ci95_classes is -0\.1, and a half-width is 0 or more"),
    ({"others": {"ece": {"mean": 0.1, "ci95": 0, "per_episode": [0.1]}}}, r"others\.ece\.per_episode has 1 figures"),
    ({"others": {"luck": {"mean": 0.1, "ci95": 0, "per_episode": [0.1] * 50}}}, r"others: There is no metric"),
    (
        {"others": {"ece": {"mean": 0.2, "ci95": 0, "per_episode": [0.1] * 50}}},
        r"others\.ece\.mean is 0\.2, and the mean of others\.ece\.per_episode is 0\.1",
    ),
    ({"surprise": 1}, "surprise: Unexpected keyword argument"),
    ({"source_hash": ...}, "source_hash: Field required"),
    ({"provenance": ...}, "provenance is missing, which says how it was measured"),
    ({"provenance": []}, "provenance is list, not an object"),
    ({"provenance__row": ...}, r"provenance\.row is missing: measure it anew"),
    ({"provenance__row": "a\x1b[2Jb"}, r"provenance\.row: value error, it has characters that cannot be printed"),
    ({"provenance__by": "\u202e"}, r"provenance\.by: value error, it has characters that cannot be printed"),
    ({"provenance__versions": {}}, r"provenance\.versions: dictionary should have at least 1 item"),
    (
        {"provenance__train_seconds": -3},
        r"provenance\.train_seconds: input should be greater than or equal to 0",
    ),
    ({"provenance__seed": "two"}, r"provenance\.seed: input should be a valid integer"),
    ({"provenance__weights_sha256": "abc"}, r"provenance\.weights_sha256: string should match pattern"),
    ({"provenance__energy": {"watt_hours": 1}}, r"provenance\.energy\.assumption is missing"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=lambda one: str(one)[:40])
def test_what_cannot_be_right_is_named_with_its_file(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = edited(row(tmp_path, "maml", made()), **changes)
    with pytest.raises(DataError, match=said) as told:
        read_entry(path)
    assert str(path) in str(told.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = edited(row(tmp_path, "maml", made()), mean=0.5, seconds=-1, split="train")
    with pytest.raises(DataError, match=r"split is .*seconds is .*mean is .*Measure it with `quickstudy evaluate`"):
        read_entry(path)


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^Cannot read the result \S*x\.json: No such file or directory\. Check the path"
    ):
        read_entry(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"mean": 0.')
    with pytest.raises(DataError, match=r"x\.json as a result: it is no JSON .*copy it again"):
        read_entry(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(DataError, match=r"expected a JSON object, found list"):
        read_entry(tmp_path / "x.json")


def test_an_error_may_be_infinite_and_an_accuracy_not(tmp_path: Path) -> None:
    path = row(tmp_path, "maml", infinite([1.0, math.inf, 2.0], diverged=1))
    assert read_entry(path).result.mean == math.inf
    with pytest.raises(DataError, match=r"metric accuracy lies between 0 and 1"):
        read_entry(edited(path, metric="accuracy"))
    with pytest.raises(DataError, match=r"per_episode has an infinite return"):
        read_entry(edited(path, metric="return"))


def test_six_digits_are_enough(tmp_path: Path) -> None:
    path = row(tmp_path, "maml", a_result([1 / 3, 2 / 3, 1.0], way=3, query=1))
    assert '"per_episode": [0.333333, 0.666667, 1.0]' in path.read_text()
    read_entry(path)
    content = json.loads(path.read_text())
    with pytest.raises(DataError, match="mean is"):
        read_entry(edited(path, mean=content["mean"] + 1e-4))


def test_pages_of_studies_read_by_the_same_check(tmp_path: Path) -> None:
    """docs/results.md is made by it: an edited mean stands on no page."""
    path = row(tmp_path, "maml", made(0.8))
    assert load_kept(path)[1]["row"] == "maml"
    with pytest.raises(DataError, match=r"maml\.json cannot be right\. mean is 0\.99, and the mean of per_episode is"):
        load_kept(edited(path, mean=0.99))
